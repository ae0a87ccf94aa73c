// A node that is killed while it runs a function costs time, and never the answer.
import { expect, test } from 'vitest';
import { useBrowser, visit } from './browser';
import { says } from './guest';
import { startMesh } from './mesh';

useBrowser();

/** Steps of a run that takes seconds. */
const LONG = 6_000_000_000;
/** What may take that long on a busy machine. */
const PATIENCE_MS = 120_000;

test('the node that runs it is killed, and the answer comes all the same', async () => {
  const mesh = await startMesh();
  const base = mesh.bases[0] ?? '';
  const post = async (route: string, body: BodyInit) => {
    const answer = await fetch(`${base}/v1/${route}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    return (await answer.json()) as Record<string, string>;
  };
  const busy = async (of: string) => /^timerose_slots_used ([1-9])/m.test(await (await fetch(`${of}/metrics`)).text());
  try {
    // The page's own node gets something else to do, so that what the page runs goes to another one.
    const other = await post('add', says('other', 1, 0, 10 * LONG));
    const fn = await post('deploy', JSON.stringify({ code: other['cid'], manifest: { limits: { timeout_ms: 300_000 } } }));
    const control = new AbortController();
    const body = JSON.stringify({ fn: fn['function'], args: [{ text: '' }], timeout_ms: 300_000 });
    const headers = { 'content-type': 'application/json' };
    const going = fetch(`${base}/v1/call`, { method: 'POST', headers, body, signal: control.signal }).catch(() => null);
    await expect.poll(() => busy(base), { timeout: PATIENCE_MS }).toBe(true);

    const { page, wrong, end } = await visit('', {}, base);
    await page.getByRole('radio', { name: 'Module file' }).check();
    const module = says('survived', 1, 0, LONG);
    await page.getByLabel('Module (.wasm)').setInputFiles({ name: 'long.wasm', mimeType: 'application/wasm', buffer: module });
    await page.getByText('Manifest', { exact: true }).click();
    await page.getByLabel('JSON; empty').fill('{"limits": {"timeout_ms": 300000}}');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    let runner = 0;
    const found = async () => {
      runner = (await Promise.all(mesh.bases.slice(1).map(busy))).indexOf(true) + 1;
      return runner > 0 ? '' : `not running yet; the page says ${await page.locator('main').innerText()}`;
    };
    await expect.poll(found, { timeout: PATIENCE_MS }).toBe('');
    process.kill(mesh.pids[runner] ?? 0, 'SIGKILL');
    await page.getByText('Ran on').waitFor({ timeout: PATIENCE_MS });
    await page.getByText('survived').waitFor();
    await page.getByRole('link', { name: 'Mesh' }).click();
    await page.getByText('4 nodes, 3 in reach').waitFor();
    expect(wrong).toEqual([]);
    await end();
    control.abort();
    await going;
  } finally {
    await mesh.stop();
  }
}, 4 * PATIENCE_MS);
