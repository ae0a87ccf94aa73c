// How the page is built into `dist`, which node/build.rs makes part of the binary; and how it is served while one works on it.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** The API of a running node, for `npm run dev`. */
const api = process.env['TIMEROSE_API'] ?? '127.0.0.1:8080';
// A node refuses what a page of another origin sends; the page of the development server is one.
const proxied = { target: `http://${api}`, changeOrigin: true, headers: { origin: `http://${api}` } };

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The policy forbids scripts and styles that are not files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': proxied, '/metrics': proxied }, fs: { allow: ['..'] } },
  test: {
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
