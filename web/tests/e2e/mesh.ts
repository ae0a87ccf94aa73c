// A real mesh of four nodes in two regions, for all browser tests; and what they need to know of it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The address of the first node's page, without a slash at its end. */
    base: string;
    /** Those of the others. */
    others: string[];
  }
}

const NODES = 4;
/** How long the mesh may take to come up: a debug build on a busy machine. */
const PATIENCE_MS = 120_000;

interface Mesh {
  bases: string[];
  stop(): Promise<void>;
}

/** Starts a mesh whose nodes know each other. */
async function startMesh(): Promise<Mesh> {
  const binary = process.env['TIMEROSE_BIN'];
  if (!binary) throw new Error('TIMEROSE_BIN names no binary: run scripts/e2e-web');
  const home = mkdtempSync(join(tmpdir(), 'timerose-web-'));
  const up = spawn(binary, ['up', '--nodes', String(NODES), '--regions', 'north,south'], {
    env: { ...process.env, TIMEROSE_PATH: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(up, 'exit');
  const stop = async () => {
    up.kill('SIGINT');
    await ended;
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const bases: string[] = [];
    for await (const line of createInterface(up.stdout)) {
      const base = /http:\/\/[\d.:]+/.exec(line)?.[0];
      if (base) bases.push(base);
      if (bases.length === NODES) break;
    }
    if (bases.length < NODES) throw new Error('the mesh ended before it was up');
    for (const base of bases) await joined(base);
    return { bases, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Waits until a node reaches all others. */
async function joined(base: string): Promise<void> {
  const until = Date.now() + PATIENCE_MS;
  while (Date.now() < until) {
    const members = (await (await fetch(`${base}/v1/members`)).json()) as { connected: boolean }[];
    if (members.filter((member) => member.connected).length === NODES) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${base} does not reach all nodes`);
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const mesh = await startMesh();
  project.provide('base', mesh.bases[0] ?? '');
  project.provide('others', mesh.bases.slice(1));
  return mesh.stop;
}
