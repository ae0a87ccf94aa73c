// A mesh whose nodes are processes of their own, so that one can be killed.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import { says } from './guest';

/** What may take long on a busy machine, in milliseconds. */
export const PATIENCE = 120_000;
/** Steps of a run that takes seconds. */
const LONG = 6_000_000_000;

const binary = process.env['TIMEROSE_BIN'] ?? '';

export interface Node {
  did: string;
  base: string;
  addr: string;
  process: ChildProcess;
}

/** Starts a node and waits until it is ready. */
async function start(did: string, home: string, args: string[]): Promise<Node> {
  const child = spawn(binary, ['node', '--until-stdin-closes', '-o', 'json', '--slots', '1', '--data', home, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  for await (const line of createInterface(child.stdout)) {
    const ready = JSON.parse(line) as { api: string; addrs: string[] };
    return { did, base: `http://${ready.api}`, addr: ready.addrs.find((addr) => addr.includes('/tcp/')) ?? '', process: child };
  }
  throw new Error('a node ended before it was ready');
}

async function metric(node: Node, name: string): Promise<number> {
  const text = await (await fetch(`${node.base}/metrics`)).text();
  return Number(new RegExp(`^timerose_${name} (\\d+)`, 'm').exec(text)?.[1]);
}

/** Does something with four nodes that trust each other. The first runs nothing, so that what its page runs goes to another one. */
export async function withNodes(act: (first: Node, nodes: Node[]) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'timerose-nodes-'));
  const folders = ['page', 'one', 'two', 'three'].map((name) => join(home, name));
  const dids = folders.map((folder) => {
    const said = execFileSync(binary, ['id', '-o', 'json'], { env: { ...process.env, TIMEROSE_PATH: folder } });
    return (JSON.parse(said.toString()) as { id: string }).id;
  });
  const trust = dids.flatMap((did) => ['--trust', did]);
  const nodes: Node[] = [];
  try {
    const first = await start(dids[0] ?? '', folders[0] ?? '', [...trust, '--roles', 'scheduler,store']);
    nodes.push(first);
    for (const [at, folder] of folders.entries()) {
      if (at > 0) nodes.push(await start(dids[at] ?? '', folder, [...trust, '--join', first.addr]));
    }
    for (const node of nodes) await expect.poll(() => metric(node, 'members_connected'), { timeout: PATIENCE }).toBe(4);
    await act(first, nodes);
  } finally {
    for (const { process } of nodes) {
      process.stdin?.end();
      if (process.exitCode === null && process.signalCode === null) await once(process, 'exit');
    }
    rmSync(home, { recursive: true, force: true });
  }
}

/** Chooses a function that runs for seconds and then says `text`. */
export async function chooseLong(page: Page, text: string): Promise<void> {
  await page.getByRole('radio', { name: 'Module file' }).check();
  const module = says(text, 1, 0, LONG);
  await page.getByLabel('Module (.wasm)').setInputFiles({ name: 'long.wasm', mimeType: 'application/wasm', buffer: module });
  await page.getByText('Manifest', { exact: true }).click();
  await page.getByLabel('JSON; empty').fill('{"limits": {"timeout_ms": 300000}}');
}

/** Waits until a node runs something, and gives that node. */
export async function running(nodes: Node[]): Promise<Node> {
  let found: Node | undefined;
  const look = async () => {
    const used = await Promise.all(nodes.map((node) => metric(node, 'slots_used')));
    found = nodes[used.findIndex((slots) => slots > 0)];
    return found !== undefined;
  };
  await expect.poll(look, { timeout: PATIENCE }).toBe(true);
  if (!found) throw new Error('nobody runs anything');
  return found;
}
