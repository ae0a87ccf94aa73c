// Envelopes and letters as docs/pubsub.md has them: signed, and sealed to their recipient.

import { decode, encode } from '@ipld/dag-cbor';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { base58btc } from 'multiformats/bases/base58';

/** Which of a node's two topics. */
export type Lane = 'Tasks' | 'Replies';

/** What is said: a map of one entry, the message's name and its fields. */
export type Message = Record<string, Record<string, unknown>>;

export interface Letter {
  acks: number[];
  message: Message | null;
  /** A signed delegation. */
  delegation?: Uint8Array;
}

/** A letter and its address. */
export interface Post {
  to: string;
  lane: Lane;
  /** The sender's life. */
  epoch: number;
  /** The recipient's. */
  life: number;
  seq: number;
  letter: Letter;
}

/** A letter that came, its signature and its seal checked. */
export interface Opened extends Post {
  from: string;
}

/** An Ed25519 key of this page. */
export interface Key {
  seed: Uint8Array;
  did: string;
}

/** The largest envelope, in bytes. */
const ENVELOPE_MAX = 35 << 10;
/** How long an envelope is good for, and how far two clocks may differ, in seconds. */
const GOOD_S = 60;
const SKEW_S = 30;
/** What the list `[signature, payload]` begins with. */
const HEAD = [0x82, 0x58, 0x40];
const SIGNATURE = 64;
/** Ed25519 over DAG-CBOR. */
const HEADER = Uint8Array.of(0x34, 0x01, 0xed, 0x01, 0xed, 0x01, 0x13, 0x71);
const ENVELOPE = 'timerose/envelope@1';
const LETTER = 'timerose/letter@1';
const DOMAIN = new TextEncoder().encode('timerose/1/envelope');
/** A key seals one letter. */
const NONCE = new Uint8Array(12);
const DID = 'did:key:';
const ED25519_PUB = [0xed, 0x01];

export function topicOf(lane: Lane, node: string): string {
  return `timerose/1/${lane === 'Tasks' ? 'tasks' : 'replies'}/${node}`;
}

export function keyOf(seed: Uint8Array): Key {
  const text = base58btc.encode(Uint8Array.of(...ED25519_PUB, ...ed25519.getPublicKey(seed)));
  return { seed, did: `${DID}${text}` };
}

/** The public key that a did:key names. */
function publicOf(did: string): Uint8Array {
  const bytes = did.startsWith(DID) ? base58btc.decode(did.slice(DID.length)) : new Uint8Array();
  if (bytes.length !== 34 || !ED25519_PUB.every((byte, at) => bytes[at] === byte)) throw new Error(`no did:key of Ed25519: ${did}`);
  return bytes.subarray(2);
}

function cipherOf(shared: Uint8Array, ephemeral: Uint8Array, from: string, to: string) {
  const parts = [DOMAIN, shared, ephemeral, publicOf(from), publicOf(to)];
  return chacha20poly1305(sha256(Uint8Array.from(parts.flatMap((part) => [...part]))), NONCE);
}

/** The signed envelope of a letter. `secret` is made for it, and used for nothing else. */
export function seal(key: Key, post: Post, nowMs: number, secret = crypto.getRandomValues(new Uint8Array(32))): Uint8Array {
  const recipient = publicOf(post.to);
  if (ed25519.Point.fromBytes(recipient).isSmallOrder()) throw new Error(`a weak key: ${post.to}`);
  const ephemeral = x25519.getPublicKey(secret);
  const shared = x25519.getSharedSecret(secret, ed25519.utils.toMontgomery(recipient));
  const body = cipherOf(shared, ephemeral, key.did, post.to).encrypt(encode({ [LETTER]: post.letter }));
  const { to, lane, epoch, life, seq } = post;
  const exp = Math.floor(nowMs / 1000) + GOOD_S;
  const payload = encode({ h: HEADER, [ENVELOPE]: { iss: key.did, to, lane, epoch, life, seq, exp, key: ephemeral, body } });
  return Uint8Array.of(...HEAD, ...ed25519.sign(payload, key.seed), ...payload);
}

/** Checks and opens an envelope. Throws whatever is wrong with it. */
export function open(key: Key, bytes: Uint8Array, nowMs: number): Opened {
  if (bytes.length > ENVELOPE_MAX || !HEAD.every((byte, at) => bytes[at] === byte)) throw new Error('no envelope');
  const [signature, payload] = [bytes.subarray(HEAD.length, HEAD.length + SIGNATURE), bytes.subarray(HEAD.length + SIGNATURE)];
  const read = decode<Record<string, unknown>>(payload);
  const said = fields(read[ENVELOPE]);
  const [from, to, ephemeral, body] = [text(said['iss']), text(said['to']), raw(said['key']), raw(said['body'])];
  if (!same(raw(read['h']), HEADER) || to !== key.did) throw new Error('not for this page');
  const now = Math.floor(nowMs / 1000);
  const exp = int(said['exp']);
  if (exp < now - SKEW_S || exp > now + GOOD_S + SKEW_S) throw new Error('expired, or good for too long');
  if (!ed25519.verify(signature, payload, publicOf(from), { zip215: false })) throw new Error('not signed by its sender');
  const shared = x25519.getSharedSecret(ed25519.utils.toMontgomerySecret(key.seed), ephemeral);
  const letter = fields(decode<Record<string, unknown>>(cipherOf(shared, ephemeral, from, to).decrypt(body))[LETTER]);
  const lane = said['lane'] === 'Tasks' ? 'Tasks' : 'Replies';
  const [acks, message] = [letter['acks'], letter['message']];
  if (!Array.isArray(acks)) throw new Error('no acknowledgements');
  const [epoch, life, seq] = [int(said['epoch']), int(said['life']), int(said['seq'])];
  return { from, to, lane, epoch, life, seq, letter: { acks: acks.map(int), message: message === null ? null : (fields(message) as Message) } };
}

export function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('no map');
  return value as Record<string, unknown>;
}

export function text(value: unknown): string {
  if (typeof value !== 'string') throw new Error('no text');
  return value;
}

/** Numbers over 2^53 are none that a page makes, or compares. */
export function int(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new Error('no number');
  return value;
}

function raw(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new Error('no bytes');
  return value;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
