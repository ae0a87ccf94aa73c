// A node that is killed while it runs a function costs time, and never the answer.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { useBrowser, visit } from './browser';
import { says } from './guest';

useBrowser();

/** Steps of a run that takes seconds. */
const LONG = 6_000_000_000;
/** What may take that long on a busy machine, in milliseconds. */
const PATIENCE = 120_000;

const binary = process.env['TIMEROSE_BIN'] ?? '';

interface Node {
  base: string;
  addr: string;
  process: ChildProcess;
}

/** Starts a node and waits until it is ready. */
async function start(home: string, args: string[]): Promise<Node> {
  const child = spawn(binary, ['node', '--until-stdin-closes', '-o', 'json', '--slots', '1', '--data', home, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  for await (const line of createInterface(child.stdout)) {
    const ready = JSON.parse(line) as { api: string; addrs: string[] };
    return { base: `http://${ready.api}`, addr: ready.addrs.find((addr) => addr.includes('/tcp/')) ?? '', process: child };
  }
  throw new Error('a node ended before it was ready');
}

async function metric(node: Node, name: string): Promise<number> {
  const text = await (await fetch(`${node.base}/metrics`)).text();
  return Number(new RegExp(`^timerose_${name} (\\d+)`, 'm').exec(text)?.[1]);
}

test(
  'the node that runs it is killed, and the answer comes all the same',
  async () => {
    const home = mkdtempSync(join(tmpdir(), 'timerose-loss-'));
    const names = ['page', 'one', 'two', 'three'].map((name) => join(home, name));
    const dids = names.map((folder) => {
      const said = execFileSync(binary, ['id', '-o', 'json'], { env: { ...process.env, TIMEROSE_PATH: folder } });
      return (JSON.parse(said.toString()) as { id: string }).id;
    });
    const trust = dids.flatMap((did) => ['--trust', did]);
    const nodes: Node[] = [];
    try {
      // The page's own node runs nothing, so that what the page runs goes to another one.
      const first = await start(names[0] ?? '', [...trust, '--roles', 'scheduler,store']);
      nodes.push(first);
      for (const folder of names.slice(1)) nodes.push(await start(folder, [...trust, '--join', first.addr]));
      for (const node of nodes) await expect.poll(() => metric(node, 'members_connected'), { timeout: PATIENCE }).toBe(4);

      const { page, wrong, end } = await visit('', {}, first.base);
      await page.getByRole('radio', { name: 'Module file' }).check();
      const module = says('survived', 1, 0, LONG);
      await page.getByLabel('Module (.wasm)').setInputFiles({ name: 'long.wasm', mimeType: 'application/wasm', buffer: module });
      await page.getByText('Manifest', { exact: true }).click();
      await page.getByLabel('JSON; empty').fill('{"limits": {"timeout_ms": 300000}}');
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      let runner: Node | undefined;
      const found = async () => {
        const used = await Promise.all(nodes.map((node) => metric(node, 'slots_used')));
        runner = nodes[used.findIndex((slots) => slots > 0)];
        return runner !== undefined;
      };
      await expect.poll(found, { timeout: PATIENCE }).toBe(true);
      expect(runner).not.toBe(first);
      runner?.process.kill('SIGKILL');
      await page.getByText('Ran on').waitFor({ timeout: PATIENCE });
      await page.getByText('survived').waitFor();
      // Another one did it.
      expect(await page.locator('dd a[href^="#/mesh/"]').first().getAttribute('title')).not.toBe(dids[nodes.indexOf(runner ?? first)]);
      await page.getByRole('link', { name: 'Mesh' }).click();
      await page.getByText('4 nodes, 3 in reach').waitFor();
      expect(wrong).toEqual([]);
      await end();
    } finally {
      for (const { process } of nodes) {
        process.stdin?.end();
        if (process.exitCode === null && process.signalCode === null) await once(process, 'exit');
      }
      rmSync(home, { recursive: true, force: true });
    }
  },
  4 * PATIENCE,
);
