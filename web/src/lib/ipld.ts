// CIDs and DAG-CBOR. Loaded when needed.

import { decode } from '@ipld/dag-cbor';
import { CID } from 'multiformats/cid';
import { type Tree, treeOf } from './tree';

const DAG_CBOR = 0x71;

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
