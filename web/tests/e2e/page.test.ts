// What the page is for: run a function and see where, share it, add a folder and count its words, watch the mesh.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { wordCount as example } from '../../src/lib/examples';
import { tar } from '../../src/lib/tar';
import { faults, picture, root, runWordCount, useBrowser, visit, visiting } from './browser';

useBrowser();

/** Asks the first node's API, as a script beside the page does. */
async function api<T>(route: string, body: BodyInit, type = 'application/json'): Promise<T> {
  const answer = await fetch(`${inject('base')}/v1/${route}`, { method: 'POST', headers: { 'content-type': type }, body });
  expect(answer.status).toBe(200);
  const text = await answer.text();
  expect(text).not.toMatch(/^event: error/m);
  return (text.startsWith('{') ? JSON.parse(text) : text) as T;
}

/** Deploys the word count, and gives its CID. */
async function wordCount(): Promise<string> {
  const code = await api<{ cid: string }>('add', readFileSync(join(root, 'guests/built/wordcount-fan.wasm')), 'application/wasm');
  return (await api<{ function: string }>('deploy', JSON.stringify({ code: code.cid, manifest: example.manifest }))).function;
}

test('a module that is uploaded runs, and says on which node', () =>
  visiting('', async (page) => {
    await page.getByRole('radio', { name: 'Module file' }).check();
    await page.getByLabel('Module (.wasm)').setInputFiles(join(root, 'guests/built/wordcount-fan.wasm'));
    await page.getByLabel('Entry').fill('map');
    await page.getByLabel('as text').fill('a rose is a rose');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    const result = page.getByRole('region', { name: 'The content of the result' });
    await result.getByRole('row', { name: 'rose 2' }).waitFor();
    const node = page.locator('dd').filter({ has: page.locator('a[href^="#/mesh/"]') }).first();
    const members = (await (await fetch(`${inject('base')}/v1/members`)).json()) as { id: string }[];
    const title = await node.getByRole('link').getAttribute('title');
    expect(members.map((member) => member.id)).toContain(title);
    await page.getByText('Receipt', { exact: true }).click();
    await page.getByText('signature on it was checked').waitFor();
    await page.getByRole('radio', { name: 'JSON' }).check();
    await page.getByText('3 fields').first().waitFor();
  }));

test('a detached run is done without the page, which finds its result later', async () => {
  const first = await visit();
  await first.page.getByRole('radio', { name: 'Module file' }).check();
  await first.page.getByLabel('Module (.wasm)').setInputFiles(join(root, 'guests/built/wordcount-fan.wasm'));
  await first.page.getByLabel('Entry').fill('map');
  await first.page.getByLabel('as text').fill('detached detached rose');
  await first.page.getByRole('checkbox', { name: /^Detached/ }).check();
  await first.page.getByRole('button', { name: 'Run', exact: true }).click();
  await first.page.getByText(/^Accepted: /).waitFor();
  expect(first.wrong).toEqual([]);
  await first.end();
  await visiting('', async (page) => {
    const works = page.getByRole('region', { name: 'Pieces of detached work' });
    // The latest comes first.
    const latest = works.getByRole('row').nth(1);
    await latest.getByRole('cell', { name: 'done', exact: true }).waitFor();
    await latest.locator('td a[href^="#/data/"]').first().click();
    await page.getByRole('row', { name: 'detached 2' }).waitFor();
  });
});

test('a run that is shared can be repeated in a fresh profile, and a link runs nothing by itself', async () => {
  let link = '';
  let result = '';
  await visiting('', async (page) => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await runWordCount(page);
    await page.getByRole('button', { name: 'Copy the link' }).click();
    await page.getByRole('button', { name: 'Copied to this run' }).waitFor();
    link = await page.evaluate(() => navigator.clipboard.readText());
    result = await page.locator('dd a[href^="#/data/"]').first().innerText();
  });
  expect(link).toContain('#/run?fn=bafy');
  const fresh = await visit(link);
  const posts: string[] = [];
  fresh.page.on('request', (request) => request.method() === 'POST' && posts.push(request.url()));
  await fresh.page.getByRole('combobox', { name: 'Entry' }).waitFor();
  expect(await fresh.page.getByLabel('as text').inputValue()).toContain('The rose is a rose');
  expect(await fresh.page.getByText('History').count()).toBe(0);
  expect(posts).toEqual([]);
  await fresh.page.getByRole('button', { name: 'Run', exact: true }).click();
  await fresh.page.getByText('Ran on').waitFor();
  expect(await fresh.page.locator('dd a[href^="#/data/"]').first().innerText()).toBe(result);
  await fresh.page.getByText('earlier result reused').waitFor();
  await fresh.page.getByRole('heading', { name: 'History' }).waitFor();
  expect(fresh.wrong).toEqual([]);
  await fresh.end();
});

test('a folder that is dropped is added, spread, and its words are counted', async () => {
  const folder = join(mkdtempSync(join(tmpdir(), 'timerose-drop-')), 'poems');
  mkdirSync(join(folder, 'more'), { recursive: true });
  for (let i = 0; i < 24; i += 1) writeFileSync(join(folder, i % 2 ? 'more' : '', `${i}.txt`), `rose ${'apple '.repeat(i)}`);
  try {
    await visiting('#/data', async (page) => {
      const zone = page.getByRole('group', { name: 'Drop files or a folder here' });
      const box = await zone.boundingBox();
      if (!box) throw new Error('no place to drop');
      const at = { x: box.x + 20, y: box.y + 20 };
      // As the browser itself tells of a drop from outside.
      const session = await page.context().newCDPSession(page);
      const data = { items: [], files: [folder], dragOperationsMask: 1 };
      for (const type of ['dragEnter', 'dragOver', 'drop'] as const) await session.send('Input.dispatchDragEvent', { type, ...at, data });
      await page.getByText('24 files').waitFor();
      expect(await page.getByText(/\d+ blocks? on/).count()).toBeGreaterThan(1);
      await page.locator('.added a[href^="#/data/"]').click();
      await page.getByRole('row', { name: 'more folder' }).getByRole('link').click();
      await page.getByRole('link', { name: '23.txt' }).click();
      await page.getByText('rose apple').waitFor();
      await page.getByRole('navigation', { name: 'Path' }).getByRole('link').first().click();
      await page.getByText('13 entries').waitFor();
      await picture(page, 'data');

      await page.getByRole('link', { name: 'Run a job over this folder' }).click();
      await page.getByRole('button', { name: 'Use the word count' }).click();
      await expect.poll(() => page.getByLabel('Function CID').inputValue(), { timeout: 30_000 }).toMatch(/^bafy/);
      await page.getByRole('button', { name: 'Start' }).click();
      await page.getByText(/^Done: \d+ tasks in/).waitFor();
      const words = page.getByRole('region', { name: 'The content of the result' });
      await words.getByRole('row', { name: 'rose 24' }).waitFor();
      await words.getByRole('row', { name: `apple ${(23 * 24) / 2}` }).waitFor();
      await page.getByRole('region', { name: 'Progress by node' }).getByRole('row').nth(1).waitFor();
      await page.getByText(/^Lineage: \d\d steps from 24 inputs$/).click();
      await page.getByRole('region', { name: 'Lineage' }).getByRole('row').nth(24).waitFor();
      await page.getByText(/^Lineage:/).click();
      await picture(page, 'jobs');

      // The address names the job now: whoever loads it again goes on with it, by a click, and nothing is run twice.
      await page.reload();
      await page.getByRole('region', { name: 'Begun before' }).waitFor();
      expect(await page.getByText(/^Done:/).count()).toBe(0);
      await page.getByRole('button', { name: 'Go on' }).click();
      await page.getByText(/^Done: \d+ tasks in/).waitFor();
      await page.getByText(/: 0 executed, \d\d reused/).waitFor();
      await words.getByRole('row', { name: 'rose 24' }).waitFor();
    });
  } finally {
    rmSync(join(folder, '..'), { recursive: true });
  }
});

test('who holds what a CID names is said', async () => {
  const { cid } = await api<{ cid: string }>('add', `held at ${Date.now()}`, 'application/octet-stream');
  await visiting(`#/data/${cid}`, async (page) => {
    await page.getByText('Who holds it', { exact: true }).press('Enter');
    await page.getByText('It is on this node.').waitFor();
    expect(await faults(page)).toEqual([]);
  });
  // Another node of the mesh is told who it is: it is asked until the holder has let it be known.
  const other = inject('others')[0] ?? '';
  const { page, wrong, end } = await visit(`${other}/#/data/${cid}`, {}, other);
  const holder = ((await (await fetch(`${inject('base')}/v1/members`)).json()) as { id: string; self: boolean }[]).find((member) => member.self);
  const holders = page.getByRole('region', { name: 'Who holds it' });
  const look = async () => {
    await page.reload();
    await page.getByText('Who holds it', { exact: true }).press('Enter');
    await page.getByText(/^It is (not )?on this node/).waitFor();
    return holders.locator(`a[title="${holder?.id}"]`).count();
  };
  await expect.poll(look, { timeout: 100_000 }).toBe(1);
  expect(wrong).toEqual([]);
  await end();
});

test('the picture and the table of the mesh show work as it is done', () =>
  visiting('#/mesh', async (page) => {
    await page.getByText('4 nodes, 4 in reach').waitFor();
    expect(await page.locator('svg .node').count()).toBe(4);
    const table = page.getByRole('table', { name: 'The nodes of the mesh' });
    expect(await table.getByRole('row').count()).toBe(5);
    const seen = async () => {
      const cells = await table.locator('tbody tr td:nth-of-type(4)').allInnerTexts();
      return cells.reduce((sum, cell) => sum + Number(cell), 0);
    };
    expect(await seen()).toBe(0);
    const words = await wordCount();
    const files = Array.from({ length: 120 }, (_, i) => ({ path: `${i}.txt`, file: new Blob([`a rose ${i} at ${Date.now()}`]) }));
    const dataset = await api<{ cid: string }>('add?spread=true', tar(files), 'application/x-tar');
    const job = api('mapreduce', JSON.stringify({ fn: words, dataset: dataset.cid }));
    await page.locator('svg .work').first().waitFor({ state: 'attached' });
    await picture(page, 'mesh');
    await job;
    await expect.poll(seen).toBeGreaterThanOrEqual(120);
    const arg = { text: `a text of ${Date.now()}` };
    const call = await api<{ executor: string }>('call', JSON.stringify({ fn: words, entry: 'map', args: [arg] }));
    await expect.poll(seen).toBeGreaterThanOrEqual(121);
    await table.locator(`a[title="${call.executor}"]`).click();
    await page.getByRole('heading', { name: 'Recent calls' }).waitFor();
    await expect.poll(() => page.locator('#recent + table tbody tr').count()).toBe(1);
    await page.getByRole('link', { name: 'All nodes' }).click();
    await table.getByRole('row', { name: 'this node' }).getByRole('link').click();
    await page.getByRole('heading', { name: 'Work, traffic and store' }).waitFor();
    await picture(page, 'node');
  }));

test('errors say what happened and what to do', () =>
  visiting('', async (page) => {
    await page.getByRole('radio', { name: 'By CID' }).check();
    await page.getByLabel('Function CID').fill('nonsense');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    const alert = page.getByRole('alert');
    await alert.getByText('Usage').waitFor();
    await alert.getByText('What to do:').waitFor();
    // Of the right form, and nobody has it.
    await page.getByLabel('Function CID').fill('bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await alert.getByText('NotFound').waitFor();
  }));

/** When the page was first painted, in milliseconds; waits until it is, which may be after its elements are there. */
function firstPaint(): Promise<number> {
  return new Promise((painted) => {
    const observer = new PerformanceObserver((seen) => {
      const first = seen.getEntriesByName('first-contentful-paint')[0];
      if (first) painted(first.startTime);
    });
    observer.observe({ type: 'paint', buffered: true });
  });
}

test('the first view is painted soon', async () => {
  const { page, end } = await visit();
  const paints: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    await page.reload();
    await page.getByRole('heading', { level: 1 }).waitFor();
    paints.push(await page.evaluate(firstPaint));
  }
  // A figure for whoever reads the log. It is not held to a limit here: this machine may be busy.
  console.info(`first contentful paint, ms: ${paints.map((ms) => ms.toFixed(0)).join(', ')}`);
  expect(paints.every(Number.isFinite)).toBe(true);
  await end();
});
