// Calls by PubSub from the page itself: its node relays and is not asked to call.
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { allowPage, faults, picture, useBrowser, visit, visiting } from './browser';
import { PATIENCE, chooseLong, running, withNodes } from './nodes';

useBrowser();

const leave = "Let this page ask in the node's place";

/** What the page asks of its node, and where it connects. */
function watch(page: Page): { calls: string[]; sockets: string[] } {
  const [calls, sockets]: [string[], string[]] = [[], []];
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (pathname === '/v1/call' || pathname === '/v1/delegations') calls.push(pathname);
  });
  page.on('websocket', (socket) => sockets.push(socket.url()));
  return { calls, sockets };
}

async function chooseText(page: Page, text: string): Promise<void> {
  await page.getByRole('radio', { name: 'Module file' }).check();
  await page.getByRole('button', { name: 'Word count', exact: true }).click();
  await page.getByText('Loaded the example').waitFor();
  await page.getByLabel('as text').fill(text);
}

test('the page runs a function by PubSub, after one click of leave, and its node calls nothing', () =>
  visiting('', async (page) => {
    const { calls, sockets } = watch(page);
    await chooseText(page, `petal petal ${Date.now()}`);
    await page.getByLabel('Messages to the executor').selectOption('page');
    await page.getByRole('button', { name: leave }).waitFor();
    expect(await faults(page)).toEqual([]);
    // Without leave nothing is sent to anybody.
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('alert').getByText('Denied').waitFor();
    expect([calls, sockets]).toEqual([[], []]);
    await page.getByRole('button', { name: leave }).press('Enter');
    await page.getByText("It may have functions run in this node's place").waitFor();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByText(/by PubSub from this page/).waitFor();
    await page.getByRole('row', { name: 'petal 2' }).waitFor();
    expect(calls).toEqual(['/v1/delegations']);
    expect(sockets).toHaveLength(1);
    expect(sockets[0]).toMatch(/^ws:\/\/127\.0\.0\.1:\d+\/?$/);
    expect(await faults(page)).toEqual([]);
    await page.setViewportSize({ width: 1200, height: 1130 });
    await picture(page, 'pubsub');
    const key = await page.locator('code[title^="did:key:"]').getAttribute('title');
    // A call of the page is seen in the mesh as others are.
    await page.getByRole('link', { name: 'Mesh' }).click();
    const cells = page.getByRole('table', { name: 'The nodes of the mesh' }).locator('tbody tr td:nth-of-type(4)');
    await expect.poll(async () => (await cells.allInnerTexts()).map(Number).reduce((sum, cell) => sum + cell, 0)).toBe(1);

    // The key is kept, and with it the leave: it is signed anew without a click.
    await page.getByRole('link', { name: 'Playground' }).click();
    await page.reload();
    await page.getByRole('heading', { level: 1 }).waitFor();
    await chooseText(page, `thorn thorn thorn ${Date.now()}`);
    await page.getByLabel('Messages to the executor').selectOption('page');
    await page.getByText("It may have functions run in this node's place").waitFor();
    expect(await page.locator('code[title^="did:key:"]').getAttribute('title')).toBe(key);
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('row', { name: 'thorn 3' }).waitFor();
    expect(calls).toEqual(['/v1/delegations', '/v1/delegations']);
  }));

test(
  'the executor is killed in the midst of a run, and the page asks the next one',
  () =>
    withNodes(async (first, nodes) => {
      const { page, wrong, end } = await visit('', {}, first.base);
      const { calls } = watch(page);
      await chooseLong(page, 'carried on');
      await allowPage(page);
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      const runner = await running(nodes);
      expect(runner).not.toBe(first);
      runner.process.kill('SIGKILL');
      await page.getByText(/[2-9] executors, by PubSub from this page/).waitFor({ timeout: PATIENCE });
      await page.getByText('carried on').waitFor();
      expect(await page.locator('dd a[href^="#/mesh/"]').first().getAttribute('title')).not.toBe(runner.did);
      expect(calls).toEqual(['/v1/delegations']);
      expect(wrong).toEqual([]);
      await end();
    }),
  4 * PATIENCE,
);
