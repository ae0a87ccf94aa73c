// Making a function out of a module, and arguments out of what was typed or chosen.

import { type Arg, type Fn, INLINE_MAX, add, post } from './api';
import type { ModuleExample } from './examples';

/** Adds what a run needs and what need not be kept when it is over: a function that is deployed keeps its code. */
async function lend(body: Blob): Promise<string> {
  return (await add(body, { pin: false })).cid;
}

/** Adds a module and deploys it. */
export async function deploy(module: Blob, manifest: unknown): Promise<Fn> {
  const cid = await lend(module);
  return post<Fn>('/v1/deploy', manifest ? { code: cid, manifest } : { code: cid });
}

/** Source text that the node makes functions of. */
export type Language = 'python' | 'javascript' | 'wat';

/** The interpreters that came with this page: scripts/web puts them there where it can. */
const interpreters = import.meta.glob<string>('../../interpreters/*.wasm', { query: '?url', import: 'default', eager: true });
/** Languages whose interpreter this node has from this page. */
const given = new Set<Language>();

/** Gives the node the interpreter of a language, once. Without it the node looks for it in the mesh. */
async function giveInterpreter(language: Language): Promise<void> {
  const url = interpreters[`../../interpreters/${language}.wasm`];
  if (!url || given.has(language)) return;
  await add(await (await fetch(url)).blob());
  given.add(language);
}

/** Adds source text and makes a function of it. */
export async function deployText(language: Language, text: string): Promise<Fn> {
  await giveInterpreter(language);
  const cid = await lend(new Blob([text]));
  return post<Fn>('/v1/deploy', { code: cid, language });
}

/** The module of an example, out of this page's own files. */
export async function moduleOf(example: ModuleExample): Promise<File> {
  const response = await fetch(example.url);
  return new File([await response.blob()], example.file, { type: 'application/wasm' });
}

export async function deployExample(example: ModuleExample): Promise<Fn> {
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
  if (draft.kind === 'file') return { cid: await lend(draft.file ?? new Blob()) };
  const bytes = new TextEncoder().encode(draft.text);
  return bytes.length <= inlineMax ? { text: draft.text } : { cid: await lend(new Blob([bytes])) };
}
