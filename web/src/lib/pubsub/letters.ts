// The letters of this page: numbered, acknowledged, sent again until they are, taken once. See docs/pubsub.md, "Letters".

import { type Key, type Message, type Opened, type Post, open, seal, topicOf } from './wire';

/** The first pause before a letter is sent again, and the longest, in milliseconds. */
const PAUSE_MS = 250;
const PAUSE_MAX_MS = 5_000;
/** How long an acknowledgement waits for a letter to travel with. */
const ACK_WAIT_MS = 20;
/** How long a node may say nothing to what is written to it before it counts as silent. */
export const SILENT_MS = 2_000;
/** Letters under way to one node; a page with more has lost its head. */
const UNDER_WAY_MAX = 256;
/** The numbers of a sender that are remembered; older ones count as taken. */
const SEEN_MAX = 1024;
/** The most acknowledgements of one letter. */
const ACKS_MAX = 256;
/** Nodes that are remembered; the one that came first goes. */
const PEERS_MAX = 256;

interface Sent {
  message: Message;
  about: unknown;
  pause: number;
  timer: ReturnType<typeof setTimeout>;
}

interface Peer {
  life: number;
  sent: Map<number, Sent>;
  seen: Set<number>;
  floor: number;
  owed: number[];
  owing: ReturnType<typeof setTimeout> | null;
  /** Since when it was written to and has said nothing. */
  unanswered: number | null;
}

export interface Ways {
  /** Puts bytes on a topic. They may get lost. */
  publish: (topic: string, bytes: Uint8Array) => void;
  /** What a node said. */
  said: (from: string, message: Message) => void;
  /** A node says nothing any more. */
  silent: (node: string) => void;
}

export class Letters {
  #peers = new Map<string, Peer>();
  #next = 0;

  /** `delegation` goes with each claim. */
  constructor(
    readonly key: Key,
    readonly epoch: number,
    private readonly delegation: () => Uint8Array,
    private readonly ways: Ways,
  ) {}

  /** Writes to a node whose life began at `life`. What was said of the same lease before matters no more. */
  post(to: string, life: number, message: Message): void {
    const peer = this.#lives(to, life);
    const about = leaseOf(message);
    this.#drop(peer, (sent) => sent.about === about);
    if (peer.sent.size >= UNDER_WAY_MAX) return;
    this.#next += 1;
    peer.sent.set(this.#next, { message, about, pause: PAUSE_MS, timer: setTimeout(() => undefined) });
    this.#transmit(to, peer, this.#next);
  }

  /** Something came on this page's topic. What is no letter to it is nothing. */
  heard(bytes: Uint8Array): void {
    let opened: Opened;
    try {
      opened = open(this.key, bytes, Date.now());
    } catch {
      return;
    }
    const { from, seq, letter } = opened;
    const known = this.#peers.get(from);
    if (opened.life !== this.epoch || (known && opened.epoch < known.life)) return;
    const peer = this.#lives(from, opened.epoch);
    peer.unanswered = null;
    const arrived = new Set(letter.acks);
    this.#drop(peer, (_, number) => arrived.has(number));
    if (seq === 0) return;
    this.#owe(from, peer, seq);
    if (seq <= peer.floor || peer.seen.has(seq)) return;
    peer.seen.add(seq);
    if (peer.seen.size > SEEN_MAX) {
      peer.floor = Math.min(...peer.seen);
      peer.seen.delete(peer.floor);
    }
    if (letter.message) this.ways.said(from, letter.message);
  }

  /** Writes to nobody any more. */
  end(): void {
    for (const peer of this.#peers.values()) this.#drop(peer, () => true);
    this.#peers.clear();
  }

  #lives(node: string, life: number): Peer {
    let peer = this.#peers.get(node);
    if (peer && peer.life >= life) return peer;
    if (peer) this.#drop(peer, () => true);
    // A map keeps the order in which its keys came.
    this.#peers.delete(node);
    peer = { life, sent: new Map(), seen: new Set(), floor: 0, owed: [], owing: null, unanswered: null };
    this.#peers.set(node, peer);
    const oldest = this.#peers.size > PEERS_MAX ? this.#peers.entries().next().value : undefined;
    if (oldest) {
      this.#drop(oldest[1], () => true);
      this.#peers.delete(oldest[0]);
    }
    return peer;
  }

  #drop(peer: Peer, which: (sent: Sent, number: number) => boolean): void {
    for (const [number, sent] of peer.sent) {
      if (!which(sent, number)) continue;
      clearTimeout(sent.timer);
      peer.sent.delete(number);
    }
  }

  #transmit(to: string, peer: Peer, number: number): void {
    const sent = peer.sent.get(number);
    if (!sent) return;
    peer.unanswered ??= Date.now();
    this.#publish(to, peer, number, sent.message);
    sent.timer = setTimeout(() => {
      if (peer.unanswered !== null && Date.now() - peer.unanswered >= SILENT_MS) {
        // Whoever is silent is not written to again: its callers go elsewhere.
        this.#drop(peer, () => true);
        peer.unanswered = null;
        this.ways.silent(to);
      } else {
        this.#transmit(to, peer, number);
      }
    }, sent.pause);
    sent.pause = Math.min(sent.pause * 2, PAUSE_MAX_MS);
  }

  #owe(to: string, peer: Peer, number: number): void {
    if (!peer.owed.includes(number)) peer.owed.push(number);
    peer.owing ??= setTimeout(() => this.#publish(to, peer, 0, null), ACK_WAIT_MS);
    if (peer.owed.length >= ACKS_MAX) this.#publish(to, peer, 0, null);
  }

  /** Publishes a letter, sealed anew, with all acknowledgements that are owed. */
  #publish(to: string, peer: Peer, seq: number, message: Message | null): void {
    if (peer.owing !== null) clearTimeout(peer.owing);
    peer.owing = null;
    const acks = peer.owed.splice(0);
    const letter = message && 'Claim' in message ? { acks, message, delegation: this.delegation() } : { acks, message };
    const post: Post = { to, lane: 'Tasks', epoch: this.epoch, life: peer.life, seq, letter };
    this.ways.publish(topicOf('Tasks', to), seal(this.key, post, Date.now()));
  }
}

/** The lease that a message is about. */
export function leaseOf(message: Message): unknown {
  return Object.values(message)[0]?.['lease'];
}
