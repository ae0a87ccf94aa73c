// One call by letters: claimed from one executor after another, and checked when it comes. See docs/pubsub.md, "Messages".

import { sha256 } from '@noble/hashes/sha2.js';
import { CID } from 'multiformats/cid';
import { type Answer, ApiError, type Arg } from '../api';
import { SILENT_MS, leaseOf } from './letters';
import { type Message, fields, int, text } from './wire';

/** How often a node that runs something is told that it is still wanted. */
const RENEW_MS = 5_000;
/** How long a claim whose letter arrived may go unanswered. */
const CLAIM_MS = 2 * SILENT_MS;
/** Pauses between rounds in which all were busy, at least. */
const ROUND_MS = 100;
/** The leases of one life of the page: their numbers begin with its first millisecond. */
const LEASES = 4096;
/** Multihash of SHA-256, and the multicodec of opaque bytes. */
const SHA2_256 = 0x12;
const RAW = 0x55;

export interface Executor {
  node: string;
  /** When its process began. */
  life: number;
}

export interface Request {
  fn: string;
  entry: string;
  args: Arg[];
  memo: boolean;
  timeoutMs: number;
  /** The trace's id and span, as hexadecimal digits. */
  trace: { id: string; header: string };
  /** Nodes that hold the function or its arguments. */
  hints: string[];
  signal: AbortSignal;
}

/** A call's answer, with the result's bytes where they came along. */
export interface Called {
  answer: Answer;
  body: Uint8Array<ArrayBuffer> | null;
}

type End =
  | { kind: 'done'; called: Called }
  | { kind: 'failed'; error: ApiError }
  | { kind: 'busy'; retryMs: number }
  | { kind: 'denied' | 'unsuitable' | 'lost' };

/** What is heard of a lease: what its executor says, or that it is silent. */
type Talk = { to: string; heard: (message: Message | null) => void };

export class Caller {
  #talks = new Map<number, Talk>();
  #next = 0;

  /** `epoch` is that of the letters; `write` posts one. */
  constructor(
    private readonly epoch: number,
    private readonly write: (to: Executor, message: Message) => void,
  ) {}

  /** A node said something. */
  said(from: string, message: Message): void {
    const talk = this.#talks.get(leaseOf(message) as number);
    if (talk?.to === from) talk.heard(message);
  }

  /** A node says nothing any more. */
  silent(node: string): void {
    for (const talk of [...this.#talks.values()]) if (talk.to === node) talk.heard(null);
  }

  /** Has a function run by the first executor that will; `find` names them, the best first, each time all were busy. */
  async call(request: Request, find: () => Promise<Executor[]>): Promise<Called> {
    const begun = performance.now();
    const out = new Set<string>();
    let claims = 0;
    let denied = 0;
    for (;;) {
      let pause = Number.POSITIVE_INFINITY;
      const executors = (await find()).filter(({ node }) => !out.has(node));
      for (const executor of executors) {
        claims += 1;
        const end = await this.#claim(executor, request, begun);
        if (end.kind === 'done') {
          const total_us = Math.round((performance.now() - begun) * 1000);
          return { ...end.called, answer: { ...end.called.answer, claims, total_us, trace: request.trace.id } };
        }
        if (end.kind === 'failed') throw end.error;
        if (end.kind === 'busy') {
          pause = Math.min(pause, Math.max(ROUND_MS, end.retryMs));
        } else {
          out.add(executor.node);
          denied += Number(end.kind === 'denied');
        }
      }
      if (pause === Number.POSITIVE_INFINITY) throw noneLeft(out.size, denied);
      await rest(pause, request.signal);
    }
  }

  /** Asks one executor, and waits for what comes of it. */
  #claim(to: Executor, request: Request, begun: number): Promise<End> {
    this.#next += 1;
    const lease = this.epoch * LEASES + (this.#next % LEASES);
    const left = Math.floor(request.timeoutMs - (performance.now() - begun));
    return new Promise<End>((done) => {
      const end = (what: End, last?: string) => {
        clearTimeout(deadline);
        clearTimeout(unanswered);
        clearInterval(renewal);
        request.signal.removeEventListener('abort', stop);
        this.#talks.delete(lease);
        if (last) this.write(to, { [last]: { lease } });
        done(what);
      };
      const stop = () => end({ kind: 'failed', error: new ApiError('Cancelled', 'you took it back', 'run it again when you like') }, 'Cancel');
      const late = () => {
        const error = new ApiError('DeadlineExceeded', 'the time ran out before the answer came', 'give it more time, or less to do');
        end({ kind: 'failed', error }, 'Cancel');
      };
      let renewal: ReturnType<typeof setInterval> | undefined;
      const deadline = setTimeout(late, Math.max(0, left));
      const unanswered = setTimeout(() => end({ kind: 'lost' }, 'Cancel'), CLAIM_MS);
      const heard = (message: Message | null) => {
        if (!message || 'Unknown' in message) return end({ kind: 'lost' });
        if ('Grant' in message) {
          clearTimeout(unanswered);
          renewal ??= setInterval(() => this.write(to, { Renew: { lease } }), RENEW_MS);
        } else if ('Nack' in message) {
          end(refusal(message['Nack']?.['reason']));
        } else if ('Outcome' in message) {
          end(outcome(to.node, message['Outcome'] ?? {}), 'Settled');
        }
      };
      this.#talks.set(lease, { to: to.node, heard });
      if (request.signal.aborted) return stop();
      request.signal.addEventListener('abort', stop);
      this.write(to, { Claim: claim(lease, request, left) });
    });
  }
}

function claim(lease: number, { fn, entry, args, memo, trace, hints }: Request, budget_ms: number): Record<string, unknown> {
  const task = {
    fn: CID.parse(fn),
    entry,
    args: args.map((arg) => ('cid' in arg ? CID.parse(arg.cid) : new TextEncoder().encode(arg.text))),
    seq: 0,
  };
  // The trace's id, the id of the span that is the cause, and a flag.
  const [, id = '', span = ''] = trace.header.split('-');
  const context = Uint8Array.from([...`${id}${span}01`.matchAll(/../g)].map(([byte]) => Number.parseInt(byte, 16)));
  return { lease, task, budget_ms: Math.max(0, budget_ms), hints, memo, keep: false, trace: context, inline: true };
}

function refusal(reason: unknown): End {
  if (reason === 'Denied') return { kind: 'denied' };
  const busy = typeof reason === 'object' && reason !== null ? (reason as { Busy?: { retry_after_ms?: unknown } }).Busy : undefined;
  return busy ? { kind: 'busy', retryMs: Number(busy.retry_after_ms) || ROUND_MS } : { kind: 'unsuitable' };
}

/** What an executor says that came of it. One that says what cannot be is as good as lost. */
function outcome(executor: string, said: Record<string, unknown>): End {
  try {
    const { Ok: ok, Err: failed } = fields(said['outcome']) as { Ok?: unknown; Err?: unknown };
    if (failed !== undefined) {
      const error = failureOf(failed);
      return error.code === 'NodeFailed' ? { kind: 'lost' } : { kind: 'failed', error };
    }
    const done = fields(ok);
    const result = cid(done['result']);
    const body = said['body'] instanceof Uint8Array ? Uint8Array.from(said['body']) : null;
    if (body && !isOf(result, body)) return { kind: 'lost' };
    return { kind: 'done', called: { answer: answerOf(executor, done, result), body } };
  } catch {
    return { kind: 'lost' };
  }
}

function answerOf(executor: string, done: Record<string, unknown>, result: CID): Answer {
  const used = fields(done['usage']);
  return {
    result: result.toString(),
    size: int(done['size']),
    task: cid(done['task']).toString(),
    receipt: cid(done['receipt']).toString(),
    executor,
    claims: 0,
    total_us: 0,
    usage: {
      run_us: int(used['run_us']),
      fetch_us: int(used['fetch_us']),
      fetched_bytes: int(used['fetched']),
      input_bytes: int(used['input']),
      memory_bytes: int(used['memory']),
    },
    reused: done['reused'] === true,
  };
}

function cid(value: unknown): CID {
  const found = CID.asCID(value);
  if (!found) throw new Error('no CID');
  return found;
}

/** Whether these are the bytes of a block. */
function isOf(block: CID, bytes: Uint8Array): boolean {
  const digest = sha256(bytes);
  return block.code === RAW && block.multihash.code === SHA2_256 && digest.every((byte, at) => block.multihash.digest[at] === byte);
}

/** A failure as it travels: a code, or a map from the code to its particulars. */
export function failureOf(failure: unknown): ApiError {
  const [code, more] = typeof failure === 'string' ? [failure, {}] : (Object.entries(fields(failure))[0] ?? ['NodeFailed', {}]);
  const known = fields(more);
  const said = Object.entries(known).map(([name, value]) => `${name} ${typeof value === 'object' ? String(CID.asCID(value) ?? '') : String(value)}`);
  return new ApiError(text(code), said.join(', ') || 'the executor says no more', 'docs/errors.md says what can be done', known);
}

function noneLeft(asked: number, denied: number): ApiError {
  if (asked === 0) return new ApiError('NoExecutor', 'no executor in reach runs such a function', 'start a node with the role executor');
  if (denied === asked) {
    return new ApiError('Denied', 'no executor takes calls in the place of this node', 'ask their operators to trust this node: --trust');
  }
  return new ApiError('NoExecutor', `none of ${asked} executors answered as it has to`, 'is the mesh still there? the page Mesh shows it');
}

function rest(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
