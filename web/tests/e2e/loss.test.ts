// A node that is killed while it runs a function costs time, and never the answer.
import { expect, test } from 'vitest';
import { useBrowser, visit } from './browser';
import { PATIENCE, chooseLong, running, withNodes } from './nodes';

useBrowser();

test(
  'the node that runs it is killed, and the answer comes all the same',
  () =>
    withNodes(async (first, nodes) => {
      const { page, wrong, end } = await visit('', {}, first.base);
      await chooseLong(page, 'survived');
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      const runner = await running(nodes);
      expect(runner).not.toBe(first);
      runner.process.kill('SIGKILL');
      await page.getByText('Ran on').waitFor({ timeout: PATIENCE });
      await page.getByText('survived').waitFor();
      // Another one did it.
      expect(await page.locator('dd a[href^="#/mesh/"]').first().getAttribute('title')).not.toBe(runner.did);
      await page.getByRole('link', { name: 'Mesh' }).click();
      await page.getByText('4 nodes, 3 in reach').waitFor();
      expect(wrong).toEqual([]);
      await end();
    }),
  4 * PATIENCE,
);
