// The node's HTTP API, as docs/api.md describes it.

/** A failure with its code, cause and hint, as the API tells it. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string,
    /** What else the API said: particulars by name. */
    readonly more: Record<string, unknown> = {},
    readonly status = 0,
  ) {
    super(message);
  }
}

export interface Member {
  id: string;
  self: boolean;
  region: string;
  roles: string[];
  engines: string[];
  slots: number;
  memory_bytes: number;
  rtt_us: number | null;
  connected: boolean;
  trusted: boolean;
  addrs: string[];
  channel?: string | null;
}

export interface Named {
  name: string;
  cid: string;
  size: number;
  kind: 'file' | 'folder' | 'symlink';
}

export interface Added {
  cid: string;
  size: number;
  files: number;
  placed: { node: string; blocks: number }[];
  missing: number;
}

export interface Param {
  name: string;
  type: string;
}

export interface Entry {
  name: string;
  params: Param[];
  result: string;
  variadic?: boolean;
}

/** A deployed function. */
export interface Fn {
  function: string;
  engine: string;
  code: string;
  entries: Entry[];
  determinism: string;
  limits: { memory: number; timeout_ms: number; output: number; fuel: number | null };
  about: { name?: string | null; description?: string | null; source?: string | null };
}

export interface Usage {
  run_us: number;
  fetch_us: number;
  fetched_bytes: number;
  input_bytes: number;
  memory_bytes: number;
}

export interface Answer {
  result: string;
  size: number;
  task: string;
  receipt: string;
  executor: string;
  claims: number;
  total_us: number;
  usage: Usage;
  reused: boolean;
  /** The trace that it was part of, where the node traces. */
  trace?: string | null;
}

/** A piece of detached work. */
export interface Work {
  handle: string;
  kind: 'call' | 'job';
  function: string;
  entry: string;
  state: 'waiting' | 'running' | 'done' | 'failed';
  accepted_unix_ms: number;
  executor?: string | null;
  result?: string;
  error?: { code: string; message: string; hint: string };
}

export interface Share {
  node: string;
  region: string;
  tasks: number;
  input_bytes: number;
  fetched_bytes: number;
  run_us: number;
}

export interface JobProgress {
  job?: string;
  tasks: number;
  done: number;
  executed: number;
  reused: number;
  fetched_bytes: number;
  nodes: Share[];
}

export interface JobResult extends JobProgress {
  job: string;
  result: string;
  size: number;
  receipt: string;
  total_ms: number;
}

/** What a result came of: see `GET /v1/lineage/{cid}`. */
export interface Step {
  result: string | null;
  receipt: string;
  function: string;
  entry: string;
  executor: string;
  args: ({ cid: string } | { inline_bytes: number })[];
}

export interface Lineage {
  result: string | null;
  results: Step[];
  inputs: string[];
  whole: boolean;
}

/** Who has a block: see `GET /v1/providers/{cid}`. */
export interface Holders {
  here: boolean;
  providers: { peer: string; connected: boolean; addrs: string[]; dht: boolean; says: boolean | null }[];
}

export type Arg = { cid: string } | { text: string };

/** The most bytes of an inline argument. */
export const INLINE_MAX = 32 << 10;

function failure(body: unknown, status: number): ApiError {
  const said = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const { code, message, hint, ...more } = said;
  if (typeof code === 'string' && typeof message === 'string') {
    return new ApiError(code, message, typeof hint === 'string' ? hint : '', more, status);
  }
  return new ApiError('Unavailable', `the node answered ${status}`, 'its log may say more', {}, status);
}

function gone(cause: unknown): never {
  if (cause instanceof DOMException && cause.name === 'AbortError') {
    throw new ApiError('Cancelled', 'you took it back', 'run it again when you like');
  }
  throw new ApiError('Unavailable', 'the node did not answer', 'is it still running? start it and reload this page');
}

async function send(path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(path, init).catch(gone);
  if (!response.ok) throw failure(await response.json().catch(() => null), response.status);
  return response;
}

export async function get<T>(path: string): Promise<T> {
  return (await send(path, {})).json() as Promise<T>;
}

/** Where the node says in which order it would ask executors. It ranks by what it can look up: arguments that travel along have no place. */
export function rankingOf(fn: string, entry: string, args: Arg[]): string {
  const query = new URLSearchParams({ fn });
  if (args.length > 0 && args.every((arg) => 'cid' in arg)) {
    if (entry) query.set('entry', entry);
    for (const arg of args) if ('cid' in arg) query.append('arg', arg.cid);
  }
  return `/v1/executors?${query}`;
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal, headers: Record<string, string> = {}): Promise<T> {
  const init = asJson(body, signal);
  return (await send(path, { ...init, headers: { ...init.headers, ...headers } })).json() as Promise<T>;
}

function asJson(body: unknown, signal?: AbortSignal): RequestInit {
  const init: RequestInit = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  return signal ? { ...init, signal } : init;
}

/** The node's signed word that a key may have functions run in its place. */
export async function delegate(key: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await send('/v1/delegations', asJson({ key }))).arrayBuffer());
}

/** A path below a CID, each part escaped. */
export function below(cid: string, path: string[] = []): string {
  return [cid, ...path].map(encodeURIComponent).join('/');
}

/** The bytes of a file, and no more than `most` of them. */
export async function read(cid: string, path: string[], most: number): Promise<Uint8Array<ArrayBuffer>> {
  const response = await send(`/v1/cat/${below(cid, path)}`, {});
  return take(response, most);
}

/** One block as it is stored. */
export async function block(cid: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await send(`/v1/block/${below(cid)}`, {})).arrayBuffer());
}

async function take(response: Response, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  while (reader && length < most) {
    const { done, value } = await reader.read().catch(gone);
    if (done) break;
    parts.push(value);
    length += value.length;
  }
  await reader?.cancel().catch(() => undefined);
  const bytes = new Uint8Array(Math.min(length, most));
  let at = 0;
  for (const part of parts) {
    const fits = part.subarray(0, bytes.length - at);
    bytes.set(fits, at);
    at += fits.length;
  }
  return bytes;
}

export interface AddOptions {
  /** Whether the body is a tar archive of a folder. */
  folder?: boolean;
  spread?: boolean;
  /** Whether it is kept for good; so it is unless this is false. */
  pin?: boolean;
  copies?: number;
  /** Called with the bytes that were sent. */
  sent?: (bytes: number) => void;
  signal?: AbortSignal;
}

/** Adds a file, or a folder as a tar archive. By XMLHttpRequest, which alone tells how far an upload has come. */
export function add(body: Blob, options: AddOptions = {}): Promise<Added> {
  const query = new URLSearchParams();
  if (options.spread) query.set('spread', 'true');
  if (options.pin === false) query.set('pin', 'false');
  if (options.spread && options.copies) query.set('copies', String(options.copies));
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open('POST', `/v1/add?${query}`);
    request.responseType = 'json';
    request.setRequestHeader('content-type', options.folder ? 'application/x-tar' : 'application/octet-stream');
    request.upload.onprogress = (event) => options.sent?.(event.loaded);
    request.onload = () => {
      if (request.status === 200) done(request.response as Added);
      else fail(failure(request.response, request.status));
    };
    const lost = 'the node did not take all of it';
    request.onerror = () => fail(new ApiError('Unavailable', lost, 'is it still running? start it and reload this page'));
    request.onabort = () => fail(new ApiError('Cancelled', 'you took it back', 'add it again when you like'));
    options.signal?.addEventListener('abort', () => request.abort());
    request.send(body);
  });
}

/** One server-sent event. */
export interface ServerEvent {
  name: string;
  data: unknown;
}

/** Takes events out of a stream's text; what is incomplete stays for the next call. */
export class EventReader {
  #rest = '';

  take(text: string): ServerEvent[] {
    this.#rest += text;
    const events: ServerEvent[] = [];
    for (let end = this.#rest.indexOf('\n\n'); end >= 0; end = this.#rest.indexOf('\n\n')) {
      const lines = this.#rest.slice(0, end).split('\n');
      this.#rest = this.#rest.slice(end + 2);
      const field = (name: string) =>
        lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
      const data = field('data').join('\n');
      if (data) events.push({ name: field('event')[0] ?? 'message', data: JSON.parse(data) as unknown });
    }
    return events;
  }
}

/** Starts a job, or goes on with one, and follows it to its end. `begun` is told by which CID it goes on later. */
export async function mapReduce(
  body: Record<string, unknown>,
  begun: (job: string) => void,
  progress: (news: JobProgress) => void,
  signal: AbortSignal,
): Promise<JobResult> {
  const response = await send('/v1/mapreduce', asJson(body, signal));
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  while (reader) {
    const { done, value } = await reader.read().catch(gone);
    if (done) break;
    for (const { name, data } of events.take(value)) {
      if (name === 'job') begun((data as { job: string }).job);
      if (name === 'progress') progress(data as JobProgress);
      if (name === 'result') return data as JobResult;
      if (name === 'error') throw failure(data, 200);
    }
  }
  throw new ApiError('Unavailable', 'the node ended in the midst of the job', 'go on with it: what was done is kept');
}
