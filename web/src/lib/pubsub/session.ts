// Calls by PubSub from this page: its key, its node's delegation, its letters. Loaded when the first is wanted.

import { ApiError, type Member, delegate, get, rankingOf } from '../api';
import { type Called, Caller, type Executor, type Request } from './caller';
import { type PageKey, takeKey } from './key';
import { Letters } from './letters';
import { type Topics, connect } from './topics';
import { topicOf } from './wire';

/** When a delegation, which is good for a day, is asked for anew. */
const RENEW_MS = 12 * 3600 * 1000;

interface Id {
  id: string;
  addrs: string[];
}

class Session {
  #topics: Topics | null = null;
  #delegation: { bytes: Uint8Array; at: number } | null = null;
  readonly #letters: Letters;
  readonly #caller: Caller;

  constructor(readonly key: PageKey) {
    // The life of this key's letters begins now.
    const epoch = Date.now();
    this.#letters = new Letters(key, epoch, () => this.#delegation?.bytes ?? new Uint8Array(), {
      publish: (topic, bytes) => this.#topics?.publish(topic, bytes),
      said: (from, message) => this.#caller.said(from, message),
      silent: (node) => this.#caller.silent(node),
    });
    this.#caller = new Caller(epoch, (to, message) => this.#letters.post(to.node, to.life, message));
  }

  /** Asks the node for its delegation, if there is none or it is old. */
  async delegated(): Promise<void> {
    if (this.#delegation && Date.now() - this.#delegation.at < RENEW_MS) return;
    const at = Date.now();
    this.#delegation = { bytes: await delegate(this.key.did), at };
  }

  async call(request: Omit<Request, 'hints'>): Promise<Called> {
    if (!this.key.agreed) {
      throw new ApiError('Denied', "this page's key may not ask in the node's place", 'press the button below the choice of the way');
    }
    await this.delegated();
    const me = await get<Id>('/v1/id');
    const topics = await this.#connect(me);
    const joined = new Set<string>();
    const find = async () => {
      const executors = await executorsOf(request);
      await Promise.all(
        executors.map(({ node }) => topicOf('Tasks', node)).filter((topic) => !joined.has(topic)).map((topic) => (joined.add(topic), topics.join(topic))),
      );
      return executors;
    };
    try {
      return await this.#caller.call({ ...request, hints: [me.id] }, find);
    } finally {
      for (const topic of joined) topics.leave(topic);
    }
  }

  /** The connection with the node, made anew where it was lost. */
  async #connect(me: Id): Promise<Topics> {
    if (this.#topics?.connected()) return this.#topics;
    await this.#topics?.end();
    this.#topics = null;
    const addr = me.addrs.find((one) => /^\/ip4\/127\.[\d.]+\/tcp\/\d+\/ws\/p2p\//.test(one));
    if (!addr) {
      throw new ApiError('Unavailable', 'the node listens on no WebSocket of this machine', 'start it with --listen /ip4/127.0.0.1/tcp/0/ws');
    }
    try {
      const own = topicOf('Replies', this.key.did);
      return (this.#topics = await connect(this.key, addr, own, (bytes) => this.#letters.heard(bytes)));
    } catch (error) {
      throw new ApiError('Unavailable', `no WebSocket to the node: ${error instanceof Error ? error.message : String(error)}`, 'reload this page; was the node begun anew?');
    }
  }
}

/** The executors of a call as the node ranks them, each with its life. */
async function executorsOf({ fn, entry, args }: Pick<Request, 'fn' | 'entry' | 'args'>): Promise<Executor[]> {
  const ranked = get<{ executors: { node: string; channel: string | null; open: boolean }[] }>(rankingOf(fn, entry, args));
  const [said, members] = await Promise.all([ranked, get<(Member & { epoch: number })[]>('/v1/members')]);
  // The node passes on what is written to this page, and nobody else does: others cannot answer.
  const executors = said.executors.filter((one) => one.channel === 'stream');
  const lives = new Map(members.map((member) => [member.id, member.epoch]));
  // Those that are full come last, and say when they are not.
  const order = [...executors.filter((one) => one.open), ...executors.filter((one) => !one.open)];
  return order.flatMap(({ node }) => {
    const life = lives.get(node);
    return life === undefined ? [] : [{ node, life }];
  });
}

let session: Promise<Session> | null = null;

function opened(): Promise<Session> {
  session ??= takeKey().then((key) => new Session(key));
  return session;
}

/** This page's key, and whether the owner of the node agreed that it asks in the node's place. */
export async function standing(): Promise<{ did: string; agreed: boolean }> {
  const { did, agreed } = (await opened()).key;
  return { did, agreed };
}

/** The owner agrees: the node is asked for its delegation. */
export async function agree(): Promise<void> {
  const page = await opened();
  await page.delegated();
  page.key.agree();
}

/** Has a function run by PubSub. */
export async function call(request: Omit<Request, 'hints'>): Promise<Called> {
  return (await opened()).call(request);
}
