// Making a function out of a module, and arguments out of what was typed or chosen.

import { type Arg, type Fn, INLINE_MAX, add, post } from './api';
import type { Example } from './examples';

/** Adds a module and deploys it. */
export async function deploy(module: Blob, manifest: unknown): Promise<Fn> {
  const { cid } = await add(module);
  return post<Fn>('/v1/deploy', manifest ? { code: cid, manifest } : { code: cid });
}

/** The module of an example, out of this page's own files. */
export async function moduleOf(example: Example): Promise<File> {
  const response = await fetch(example.url);
  return new File([await response.blob()], example.file, { type: 'application/wasm' });
}

export async function deployExample(example: Example): Promise<Fn> {
  return deploy(await moduleOf(example), example.manifest);
}

/** An argument as it is edited. */
export interface Draft {
  id: number;
  kind: 'text' | 'file' | 'cid';
  text: string;
  cid: string;
  file: File | null;
}

/** An argument as it is sent: what is too long to travel along is added and named by its CID. */
export async function settle(draft: Draft, inlineMax = INLINE_MAX): Promise<Arg> {
  if (draft.kind === 'cid') return { cid: draft.cid.trim() };
  if (draft.kind === 'file') return { cid: (await add(draft.file ?? new Blob())).cid };
  const bytes = new TextEncoder().encode(draft.text);
  return bytes.length <= inlineMax ? { text: draft.text } : { cid: (await add(new Blob([bytes]))).cid };
}
