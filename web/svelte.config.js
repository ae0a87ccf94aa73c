// How Svelte compiles the page: runes only, and warnings of accessibility fail the check.
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default { preprocess: vitePreprocess(), compilerOptions: { runes: true } };
