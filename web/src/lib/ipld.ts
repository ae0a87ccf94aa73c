// CIDs, peer ids and DAG-CBOR. Loaded when needed.

import { decode } from '@ipld/dag-cbor';
import { base58btc } from 'multiformats/bases/base58';
import { CID } from 'multiformats/cid';
import { type Tree, treeOf } from './tree';

const DAG_CBOR = 0x71;
/** What stands before the 32 bytes of an Ed25519 key in a peer id, and in a did:key. */
const PEER_ID = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const DID_KEY = [0xed, 0x01];

/** Whether a CID names a DAG-CBOR record; null for what is no CID. */
export function isRecord(text: string): boolean | null {
  try {
    return CID.parse(text).code === DAG_CBOR;
  } catch {
    return null;
  }
}

/** A DAG-CBOR block as a tree. */
export function recordTree(block: Uint8Array<ArrayBuffer>): Tree {
  return treeOf(decode(block), (value) => CID.asCID(value)?.toString() ?? null);
}

/** The node whose peer id it is; null for a peer whose key is of another kind, which no node's is. */
export function nodeOf(peer: string): string | null {
  try {
    const bytes = base58btc.baseDecode(peer);
    const known = bytes.length === PEER_ID.length + 32 && PEER_ID.every((byte, i) => bytes[i] === byte);
    return known ? `did:key:${base58btc.encode(Uint8Array.of(...DID_KEY, ...bytes.subarray(PEER_ID.length)))}` : null;
  } catch {
    return null;
  }
}
