// What was built: small enough, and nothing in it that the policy would refuse.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';

/** The most script of the first view, compressed, in bytes. */
const SCRIPT_MAX = 150_000;

const dist = join(dirname(fileURLToPath(import.meta.url)), '../../dist');
const index = () => readFileSync(join(dist, 'index.html'), 'utf8');
const asset = (name: string) => readFileSync(join(dist, 'assets', name), 'utf8');

/** A script with all that it imports at once. */
function reached(names: string[], found = new Set<string>()): Set<string> {
  for (const name of names.filter((one) => !found.has(one))) {
    found.add(name);
    const imported = [...asset(name).matchAll(/(?:^|[;}\s])(?:import|from)\s*"\.\/([\w.-]+\.js)"/g)].map((match) => match[1] ?? '');
    reached(imported, found);
  }
  return found;
}

test('the page was built', () => {
  expect(existsSync(join(dist, 'index.html')), 'run npm run build first').toBe(true);
});

test('the first view needs little script, and the editor is not part of it', () => {
  const entry = [...index().matchAll(/src="\/assets\/([\w.-]+\.js)"/g)].map((match) => match[1] ?? '');
  expect(entry).toHaveLength(1);
  const playground = readdirSync(join(dist, 'assets')).filter((name) => /^Playground-.*\.js$/.test(name));
  expect(playground).toHaveLength(1);
  const first = reached([...entry, ...playground]);
  const size = [...first].reduce((sum, name) => sum + gzipSync(asset(name)).length, 0);
  console.info(`script of the first view: ${size} bytes compressed, in ${first.size} files`);
  expect(size).toBeLessThanOrEqual(SCRIPT_MAX);
  for (const name of first) expect(asset(name).includes('cm-content'), `${name} holds the editor`).toBe(false);
});

test('nothing is inline, and nothing comes from another host', () => {
  expect(index()).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/i);
  const addresses = [...index().matchAll(/(?:src|href)="([^"]*)"/g)].map((match) => match[1] ?? '');
  expect(addresses.length).toBeGreaterThan(1);
  for (const address of addresses) expect(address).toMatch(/^\/assets\//);
});

test('sources make no markup of text', () => {
  const sources = readdirSync(join(dist, '../src'), { recursive: true, encoding: 'utf8' }).filter((name) => /\.(svelte|ts)$/.test(name));
  expect(sources.length).toBeGreaterThan(20);
  for (const name of sources) {
    const text = readFileSync(join(dist, '../src', name), 'utf8');
    expect(text.match(/@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/), name).toBeNull();
  }
});
