// Traces: what the nodes of a call did for it, laid out as a waterfall; and the ids that begin one.

export interface SpanEvent {
  at_unix_us: number;
  name: string;
  facts: Record<string, string | number>;
}

/** A stretch of time of one node: see `GET /v1/traces/{id}`. */
export interface Span {
  span: string;
  parent: string | null;
  name: string;
  node: string;
  region: string | null;
  start_unix_us: number;
  duration_us: number;
  facts: Record<string, string | number>;
  events: SpanEvent[];
  failure: string | null;
}

export interface Trace {
  trace: string;
  spans: Span[];
  left_out: number;
}

/** A span in its place: how deep below its causes, and when it began after the first. */
export interface Row {
  span: Span;
  depth: number;
  at_us: number;
}

export interface Waterfall {
  rows: Row[];
  total_us: number;
}

/** Puts each span below its cause, in order of time. What names a cause that is not there stands at the top. */
export function waterfall(spans: Span[]): Waterfall {
  const first = Math.min(...spans.map((span) => span.start_unix_us));
  const total_us = Math.max(1, ...spans.map((span) => span.start_unix_us + span.duration_us - first));
  const below = new Map<string, Span[]>();
  const ids = new Set(spans.map((span) => span.span));
  const top: Span[] = [];
  for (const span of [...spans].sort((a, b) => a.start_unix_us - b.start_unix_us)) {
    if (span.parent === null || !ids.has(span.parent)) top.push(span);
    else below.set(span.parent, [...(below.get(span.parent) ?? []), span]);
  }
  const rows: Row[] = [];
  // Ids come from other nodes: what is its own ancestor is never reached, and what comes twice is shown once.
  const seen = new Set<string>();
  const put = (span: Span, depth: number) => {
    if (seen.has(span.span)) return;
    seen.add(span.span);
    rows.push({ span, depth, at_us: span.start_unix_us - first });
    for (const next of below.get(span.span) ?? []) put(next, depth + 1);
  };
  for (const span of top) put(span, 0);
  return { rows, total_us };
}

function hex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A trace that begins in this page: its id, and the header by which a request becomes a part of it. */
export function begin(): { id: string; header: string } {
  // A first byte that is not zero: an id of zeros alone is none.
  const [id, span] = [`a${hex(16).slice(1)}`, `a${hex(8).slice(1)}`];
  return { id, header: `00-${id}-${span}-01` };
}

/** What a guest wrote, with what cannot be seen, or turns the order of characters around, shown as its code. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => {
    return `\\u{${c.charCodeAt(0).toString(16)}}`;
  });
}
