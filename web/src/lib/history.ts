// What was run before, kept in this browser alone.

import type { Arg } from './api';

export interface Run {
  /** Milliseconds since 1970. */
  at: number;
  label: string;
  fn: string;
  entry: string;
  args: Arg[];
  result: string;
  total_us: number;
}

const KEY = 'timerose.history';
/** Runs that are kept; older ones go. */
const RUNS_MAX = 30;
/** Characters of a text argument that are kept: what is longer is not. */
const TEXT_MAX = 4096;

type Store = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

export function load(store: Store = localStorage): Run[] {
  try {
    const kept: unknown = JSON.parse(store.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isRun) : [];
  } catch {
    return [];
  }
}

export function remember(run: Run, store: Store = localStorage): Run[] {
  const fits = run.args.every((arg) => 'cid' in arg || arg.text.length <= TEXT_MAX);
  const runs = fits ? [run, ...load(store)].slice(0, RUNS_MAX) : load(store);
  try {
    store.setItem(KEY, JSON.stringify(runs));
  } catch {
    // A browser that keeps nothing still shows what was run since.
  }
  return runs;
}

export function forget(store: Store = localStorage): Run[] {
  store.removeItem(KEY);
  return [];
}

function isRun(value: unknown): value is Run {
  const run = value as Partial<Run> | null;
  const isArg = (arg: unknown) => {
    const one = arg as { cid?: unknown; text?: unknown } | null;
    return typeof one?.cid === 'string' || typeof one?.text === 'string';
  };
  return (
    typeof run?.at === 'number' &&
    [run.label, run.fn, run.entry, run.result].every((text) => typeof text === 'string') &&
    typeof run.total_us === 'number' &&
    Array.isArray(run.args) &&
    run.args.every(isArg)
  );
}
