// Letters and calls of the page: the bytes of docs/pubsub.md, and what is done when they get lost.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encode } from '@ipld/dag-cbor';
import { CID } from 'multiformats/cid';
import { create } from 'multiformats/hashes/digest';
import { sha256 } from '@noble/hashes/sha2.js';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Caller, type Executor, type Request } from '../../src/lib/pubsub/caller';
import { takeKey } from '../../src/lib/pubsub/key';
import { Letters } from '../../src/lib/pubsub/letters';
import { type Key, type Message, type Opened, type Post, keyOf, open, seal } from '../../src/lib/pubsub/wire';

/** 2027-01-15 08:00 UTC. */
const NOW = 1_800_000_000_000;
const [page, node, other] = [1, 2, 3].map((byte) => keyOf(new Uint8Array(32).fill(byte))) as [Key, Key, Key];
const cidOf = (text: string) => CID.createV1(0x55, create(0x12, sha256(new TextEncoder().encode(text))));

/** The worked example of the book, by the names of its steps. */
const example = (() => {
  const book = readFileSync(join(dirname(fileURLToPath(import.meta.url)), '../../../docs/pubsub.md'), 'utf8');
  const lines = (/```text\nsender:[\s\S]*?```/.exec(book)?.[0] ?? '').split('\n').slice(1, -1);
  return new Map(lines.flatMap((line, at) => (at % 2 === 0 ? [[line.slice(0, -1), lines[at + 1] ?? ''] as const] : [])));
})();
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (name: string) => Uint8Array.from(Buffer.from(example.get(name) ?? '', 'hex'));
const grant: Post = { to: node.did, lane: 'Replies', epoch: 1, life: 2, seq: 4, letter: { acks: [3], message: { Grant: { lease: 7 } } } };

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
});
afterEach(() => {
  vi.useRealTimers();
});

test('an envelope has the bytes of the worked example, and is opened by its recipient alone', () => {
  expect([page.did, node.did]).toEqual([example.get('sender'), example.get('recipient')]);
  const sealed = seal(page, grant, NOW, new Uint8Array(32).fill(9));
  expect(hex(sealed)).toBe(example.get('envelope'));
  expect(hex(encode({ 'timerose/letter@1': grant.letter }))).toBe(example.get('letter'));
  expect(open(node, bytes('envelope'), NOW)).toEqual({ ...grant, from: page.did });
  expect(() => open(other, bytes('envelope'), NOW)).toThrow();
  for (const late of [-31, 91]) expect(() => open(node, bytes('envelope'), NOW + late * 1000), String(late)).toThrow();
});

test('an envelope with any byte changed is refused', () => {
  const sealed = bytes('envelope');
  for (let at = 0; at < sealed.length; at += 1) {
    const bent = Uint8Array.from(sealed, (byte, i) => (i === at ? byte ^ 0x10 : byte));
    expect(() => open(node, bent, NOW), `byte ${at}`).toThrow();
  }
});

/** Letters of the page, and what a node reads of them. */
function desk() {
  const read: Opened[] = [];
  const said: Message[] = [];
  const silent: string[] = [];
  const letters = new Letters(page, 5, () => Uint8Array.of(1), {
    publish: (topic, sealed) => {
      expect(topic).toBe(`timerose/1/tasks/${node.did}`);
      read.push(open(node, sealed, Date.now()));
    },
    said: (_, message) => said.push(message),
    silent: (who) => silent.push(who),
  });
  const answer = (seq: number, acks: number[], message: Message | null, epoch = 9, life = 5) =>
    letters.heard(seal(node, { to: page.did, lane: 'Replies', epoch, life, seq, letter: { acks, message } }, Date.now()));
  return { letters, read, said, silent, answer };
}

test('a letter goes again at doubling pauses, sealed anew, until it is acknowledged', () => {
  const { letters, read, answer } = desk();
  letters.post(node.did, 9, { Claim: { lease: 1 } });
  vi.advanceTimersByTime(800);
  expect(read.map(({ seq, life, epoch }) => [seq, life, epoch])).toEqual([[1, 9, 5], [1, 9, 5], [1, 9, 5]]);
  expect(read[0]?.letter.message).toEqual({ Claim: { lease: 1 } });
  answer(0, [1], null);
  vi.advanceTimersByTime(60_000);
  expect(read).toHaveLength(3);
});

test('what comes twice is acknowledged twice and taken once, and letters of other lives are nothing', () => {
  const { read, said, answer } = desk();
  answer(7, [], { Grant: { lease: 1 } });
  vi.advanceTimersByTime(20);
  answer(7, [], { Grant: { lease: 1 } });
  vi.advanceTimersByTime(20);
  expect(read.map(({ seq, letter }) => [seq, letter.acks, letter.message])).toEqual([[0, [7], null], [0, [7], null]]);
  answer(8, [], { Grant: { lease: 2 } }, 9, 4);
  answer(8, [], { Grant: { lease: 2 } }, 8);
  expect(said).toEqual([{ Grant: { lease: 1 } }]);
  answer(7, [], { Unknown: { lease: 1 } }, 10);
  expect(said).toHaveLength(2);
});

test('a node that says nothing is silent, and is not written to for ever', () => {
  const { letters, read, silent } = desk();
  letters.post(node.did, 9, { Claim: { lease: 1 } });
  vi.advanceTimersByTime(600_000);
  expect(silent).toEqual([node.did]);
  expect(read).toHaveLength(4);
});

const done = (result: string) => ({
  task: cidOf('task'),
  result: cidOf(result),
  size: result.length,
  receipt: cidOf('receipt'),
  usage: { run_us: 1, fetch_us: 2, fetched: 3, input: 4, memory: 5 },
  reused: false,
});
const body = (text: string) => new TextEncoder().encode(text);

/** A caller, two executors that do what each says of its claims, and what was written to them. */
function calling(...acts: ((say: (message: Message) => void, lease: number, silent: () => void) => void)[]) {
  const written: [string, string, number][] = [];
  const executors: Executor[] = [node, other].map(({ did }) => ({ node: did, life: 9 }));
  const caller = new Caller(5, ({ node: to }, message) => {
    const [name, said] = Object.entries(message)[0] ?? ['', {}];
    const lease = said['lease'] as number;
    written.push([to === node.did ? 'first' : 'second', name, lease]);
    const say = (answer: Message) => queueMicrotask(() => caller.said(to, answer));
    if (name === 'Claim') acts[to === node.did ? 0 : 1]?.(say, lease, () => caller.silent(to));
  });
  const control = new AbortController();
  const request: Request = {
    fn: cidOf('fn').toString(),
    entry: '',
    args: [{ text: 'x' }],
    memo: true,
    timeoutMs: 60_000,
    trace: { id: 'a1'.repeat(16), header: `00-${'a1'.repeat(16)}-${'b2'.repeat(8)}-01` },
    hints: [],
    signal: control.signal,
  };
  return { result: caller.call(request, async () => executors), written, control };
}

test('an executor that falls silent in the midst of a run costs time, and never the answer', async () => {
  const { result, written } = calling(
    (say, lease, silent) => {
      say({ Grant: { lease } });
      setTimeout(silent, 9_000);
    },
    (say, lease) => say({ Outcome: { lease, outcome: { Ok: done('rose') }, body: body('rose') } }),
  );
  await vi.advanceTimersByTimeAsync(10_000);
  const { answer, body: came } = await result;
  expect([answer.result, answer.executor, answer.claims, Buffer.from(came ?? []).toString()]).toEqual([cidOf('rose').toString(), other.did, 2, 'rose']);
  expect(written.map(([to, name]) => `${name} ${to}`)).toEqual(['Claim first', 'Renew first', 'Claim second', 'Settled second']);
  expect(new Set(written.map(([, , lease]) => lease)).size).toBe(2);
});

test('a result that is not what its CID says is not taken, nor is one of somebody else', async () => {
  const { result } = calling(
    (say, lease) => say({ Outcome: { lease, outcome: { Ok: done('rose') }, body: body('thorn') } }),
    (say, lease) => say({ Outcome: { lease, outcome: { Err: { FunctionFailed: { exit: 3, stderr: 'no' } } }, body: null } }),
  );
  await expect(result).rejects.toMatchObject({ code: 'FunctionFailed', more: { exit: 3, stderr: 'no' } });
});

test('who is busy is asked again, and who refuses is not', async () => {
  let times = 0;
  const { result, written } = calling(
    (say, lease) => say({ Nack: { lease, reason: 'Denied' } }),
    (say, lease) => {
      times += 1;
      if (times === 1) say({ Nack: { lease, reason: { Busy: { retry_after_ms: 400 } } } });
      else say({ Outcome: { lease, outcome: { Ok: done('rose') }, body: null } });
    },
  );
  await vi.advanceTimersByTimeAsync(500);
  expect((await result).body).toBeNull();
  expect(written.map(([to, name]) => `${name} ${to}`)).toEqual(['Claim first', 'Claim second', 'Claim second', 'Settled second']);
});

test('where nobody takes the call the reason is said', async () => {
  const denied = (say: (message: Message) => void, lease: number) => say({ Nack: { lease, reason: 'Denied' } });
  await expect(calling(denied, denied).result).rejects.toMatchObject({ code: 'Denied' });
});

test('a call that is taken back is cancelled at its executor', async () => {
  const { result, written, control } = calling((say, lease) => say({ Grant: { lease } }));
  await vi.advanceTimersByTimeAsync(100);
  control.abort();
  await expect(result).rejects.toMatchObject({ code: 'Cancelled' });
  expect(written.map(([, name]) => name)).toEqual(['Claim', 'Cancel']);
});

test('a key is kept, and two pages at once do not have the same', async () => {
  const kept = new Map<string, string>();
  const store = { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, value: string) => kept.set(name, value) };
  const held = new Set<string>();
  const locks = {
    request: (name: string, _: unknown, use: (lock: object | null) => unknown) => {
      const free = !held.has(name);
      held.add(name);
      return Promise.resolve(use(free ? {} : null));
    },
  };
  vi.stubGlobal('navigator', { locks });
  try {
    const first = await takeKey(store as unknown as Storage);
    first.agree();
    const second = await takeKey(store as unknown as Storage);
    expect([first.did === second.did, second.agreed]).toEqual([false, false]);
    held.clear();
    const again = await takeKey(store as unknown as Storage);
    expect([again.did, again.agreed]).toEqual([first.did, true]);
  } finally {
    vi.unstubAllGlobals();
  }
});
