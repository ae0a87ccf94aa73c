// Hostile names, contents, outputs and logs are text; other pages may do nothing.
import { createServer } from 'node:http';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, inject, test } from 'vitest';
import { useBrowser, visit, visiting } from './browser';
import { says } from './guest';

useBrowser();

const MARK = '<img src=x onerror="window.pwned=1">';
const SCRIPT = '"><script>window.pwned=1</script>';
const SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"><script>window.pwned=1</script></svg>';

async function unharmed(page: Page): Promise<void> {
  // What would have been loaded has had its time when the next request has been answered.
  await page.evaluate(() => fetch('/healthz'));
  expect(await page.evaluate(() => 'pwned' in globalThis)).toBe(false);
  expect(await page.locator('main img, main script, main iframe').count()).toBe(0);
}

test('hostile file names and contents are shown as they are', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'timerose-names-'));
  const names = [MARK, 'a" onmouseover="window.pwned=1', 'javascript:window.pwned=1', "'--><svg onload=window.pwned=1>", '%3Cimg%3E', '‮txt.exe'];
  mkdirSync(join(folder, 'in'));
  names.forEach((name) => writeFileSync(join(folder, 'in', name.replaceAll('/', '')), SVG));
  try {
    await visiting('#/data', async (page) => {
      await page.getByLabel('A folder', { exact: true }).setInputFiles(join(folder, 'in'));
      await page.getByText('6 files').waitFor();
      await page.locator('.added a[href^="#/data/"]').click();
      await page.getByText('6 entries').waitFor();
      for (const name of names) {
        await page.getByRole('link', { name, exact: true }).click();
        await page.getByText('<svg xmlns=').waitFor();
        await unharmed(page);
        await page.goBack();
        await page.getByText('6 entries').waitFor();
      }
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what a function says is text, on success and on failure', () =>
  visiting('', async (page) => {
    await page.getByRole('radio', { name: 'Module file' }).check();
    const run = async (module: Buffer) => {
      await page.getByLabel('Module (.wasm)').setInputFiles({ name: `${MARK}.wasm`, mimeType: 'application/wasm', buffer: module });
      await page.getByRole('button', { name: 'Run', exact: true }).click();
    };
    for (const text of [MARK, SCRIPT, SVG, JSON.stringify({ [MARK]: SCRIPT, __proto__: 1 }), JSON.stringify([{ [SVG]: MARK }, { b: [MARK] }])]) {
      await run(says(text, 1, 0));
      await page.getByText('Ran on').waitFor();
      const result = page.getByRole('region', { name: 'The content of the result' });
      expect(await result.innerText()).toMatch(/window\.pwned=1/);
      await unharmed(page);
    }
    await run(says(`${MARK}${SCRIPT}`, 2, 7));
    const alert = page.getByRole('alert');
    await alert.getByText('FunctionFailed').waitFor();
    await alert.getByText('exit code 7').waitFor();
    expect(await alert.innerText()).toContain(MARK);
    await unharmed(page);
  }));

test('a hostile link fills in text, and nothing else', () =>
  visiting(`#/run?fn=${encodeURIComponent(MARK)}&entry=${encodeURIComponent(SCRIPT)}&arg=${encodeURIComponent(`text:${SVG}`)}`, async (page) => {
    await page.getByRole('alert').getByText('Usage').waitFor();
    expect(await page.getByLabel('as text').inputValue()).toBe(SVG);
    await unharmed(page);
    await page.goto(`${inject('base')}/#/data/${encodeURIComponent(SCRIPT)}/${encodeURIComponent(MARK)}`);
    await page.getByRole('alert').getByText('Usage').waitFor();
    await unharmed(page);
    await page.goto(`${inject('base')}/#/mesh/${encodeURIComponent(MARK)}`);
    await page.getByText('This node does not know it').waitFor();
    await unharmed(page);
  }));

test('a picture is shown, a picture that is none is not', () =>
  visiting('#/data', async (page) => {
    const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    await page.getByLabel('Files', { exact: true }).setInputFiles({ name: 'rose.png', mimeType: 'image/png', buffer: Buffer.from(pixel, 'base64') });
    await page.locator('.added a[href^="#/data/"]').click();
    const image = page.locator('main img');
    await image.waitFor();
    await expect.poll(() => image.evaluate((element: HTMLImageElement) => element.naturalWidth)).toBe(1);
    expect(await image.getAttribute('src')).toMatch(/^blob:/);
    await page.getByLabel('Files', { exact: true }).setInputFiles({ name: 'rose.svg', mimeType: 'image/svg+xml', buffer: Buffer.from(SVG) });
    await page.locator('.added', { hasText: 'rose.svg' }).locator('a[href^="#/data/"]').click();
    await page.getByText('<svg xmlns=').waitFor();
    await unharmed(page);
  }));

test("another site's page can change nothing, read nothing and frame nothing, and may link to the page", async () => {
  const base = inject('base');
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(`<a href="${base}/#/mesh">to the mesh</a><iframe src="${base}/"></iframe><img src="${base}/healthz">`);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const foreign = `http://localhost:${(server.address() as AddressInfo).port}/`;
  const { page, end } = await visit();
  try {
    await page.goto(foreign);
    const tried = await page.evaluate(async (target) => {
      const attempt = (path: string, init: RequestInit) =>
        fetch(target + path, init).then((answer) => `${answer.type} ${answer.status}`, () => 'refused');
      return Promise.all([
        attempt('/v1/members', {}),
        attempt('/v1/add', { method: 'POST', body: 'x' }),
        attempt('/v1/call', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }),
        attempt('/v1/add', { method: 'POST', body: 'x', mode: 'no-cors' }),
      ]);
    }, base);
    expect(tried.slice(0, 3)).toEqual(['refused', 'refused', 'refused']);
    // Its answer may not be read; that it had none is told by the node: see the statuses below.
    expect(['refused', 'opaque 0']).toContain(tried[3]);
    // In the place of the frame the browser says that it was blocked.
    expect(await page.frames()[1]?.evaluate(() => document.querySelector('h1')?.textContent ?? '')).not.toContain('Playground');
    await page.getByRole('link').click();
    await page.getByRole('heading', { name: 'Mesh' }).waitFor();
  } finally {
    await end();
    server.close();
  }
  const status = async (headers: Record<string, string>) => (await fetch(`${base}/v1/add`, { method: 'POST', body: 'x', headers })).status;
  expect(await status({ origin: foreign.slice(0, -1) })).toBe(403);
  expect(await status({ origin: 'null' })).toBe(403);
  expect(await status({ 'sec-fetch-site': 'cross-site' })).toBe(403);
  expect(await status({ origin: base })).toBe(200);
});
