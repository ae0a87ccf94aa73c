// What kind of thing some bytes are, decided by the bytes alone. Nothing here makes markup of them.

/** Bytes in a form that can be shown. */
export type Shown =
  | { kind: 'empty' }
  | { kind: 'image'; type: string; bytes: Uint8Array<ArrayBuffer> }
  | { kind: 'json'; value: unknown; table: Table | null; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'bytes'; dump: string };

export type Cell = string | number | boolean | null;

export interface Table {
  columns: string[];
  rows: Cell[][];
}

/** The most bytes that are read to be shown; an image may have more than text. */
export const SHOWN_MAX = 8 << 20;
/** Bytes of a dump. */
const DUMP_MAX = 4096;

/** Pictures that hold nothing but pixels. SVG is left out: it can hold scripts. */
const IMAGES: [string, number[], number][] = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], 0],
  ['image/jpeg', [0xff, 0xd8, 0xff], 0],
  ['image/gif', [0x47, 0x49, 0x46, 0x38], 0],
  ['image/webp', [0x57, 0x45, 0x42, 0x50], 8],
];

export function classify(bytes: Uint8Array<ArrayBuffer>, whole: boolean): Shown {
  if (bytes.length === 0) return { kind: 'empty' };
  const image = IMAGES.find(([, magic, at]) => magic.every((byte, i) => bytes[at + i] === byte));
  if (image && whole) return { kind: 'image', type: image[0], bytes };
  const text = decode(bytes, whole);
  if (text === null) return { kind: 'bytes', dump: dump(bytes) };
  const value = whole ? json(text) : undefined;
  if (value === undefined) return { kind: 'text', text };
  return { kind: 'json', value, table: tabulate(value), text };
}

function decode(bytes: Uint8Array, whole: boolean): string | null {
  try {
    // Of a part, the last character may be cut off.
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: !whole });
    // eslint-disable-next-line no-control-regex
    return /[\u0000-\u0008\u000e-\u001a]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Only what is structured counts: a bare number or word is text. */
function json(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isCell(value: unknown): value is Cell {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A table: of an object of plain values, or of a list of such objects. */
export function tabulate(value: unknown): Table | null {
  if (isRecord(value)) {
    const rows = Object.entries(value);
    if (rows.length === 0 || !rows.every(([, cell]) => isCell(cell))) return null;
    return { columns: ['key', 'value'], rows: rows as Cell[][] };
  }
  if (!Array.isArray(value) || value.length === 0) return null;
  const items: unknown[] = value;
  if (!items.every((item) => isRecord(item) && Object.values(item).every(isCell))) return null;
  const records = items as Record<string, Cell>[];
  const columns = [...new Set(records.slice(0, 1000).flatMap((record) => Object.keys(record)))];
  if (columns.length === 0 || columns.length > 40) return null;
  return { columns, rows: records.map((record) => columns.map((column) => record[column] ?? null)) };
}

/** Rows in the order of one column: numbers by size, the rest as text. */
export function sorted(table: Table, column: number, down: boolean): Cell[][] {
  const compare = (a: Cell, b: Cell) =>
    typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en');
  const rows = [...table.rows].sort((a, b) => compare(a[column] ?? null, b[column] ?? null));
  return down ? rows.reverse() : rows;
}

/** The first bytes in hexadecimal and ASCII, sixteen a line. */
export function dump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, DUMP_MAX); at += 16) {
    const some = [...bytes.subarray(at, at + 16)];
    const hex = some.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = some.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  if (bytes.length > DUMP_MAX) lines.push('…');
  return lines.join('\n');
}
