// A folder as a tar archive, made of references to its files: nothing of them is read into memory.

/** A file to be archived. */
export interface Item {
  /** Its path below the folder, with `/` between the parts. */
  path: string;
  file: Blob;
}

const BLOCK = 512;
const utf8 = new TextEncoder();

/** The archive. Every path goes into an extended header, so that names of any length and alphabet survive. */
export function tar(items: Item[]): Blob {
  const parts: BlobPart[] = [];
  for (const { path, file } of items) {
    const record = extended('path', path);
    parts.push(header('name', record.length, 'x'), record, padding(record.length));
    parts.push(header('name', file.size, '0'), file, padding(file.size));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: 'application/x-tar' });
}

/** A record of an extended header: its own length in decimal, a key, a value. */
export function extended(key: string, value: string): Uint8Array<ArrayBuffer> {
  const rest = utf8.encode(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  const record = new Uint8Array(length);
  record.set(utf8.encode(String(length)));
  record.set(rest, length - rest.length);
  return record;
}

/** A POSIX header. */
export function header(name: string, size: number, type: '0' | 'x'): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, text: string) => block.set(utf8.encode(text), at);
  const octal = (at: number, width: number, value: number) => put(at, value.toString(8).padStart(width - 1, '0'));
  put(0, name);
  octal(100, 8, 0o644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, 0);
  put(156, type);
  put(257, 'ustar\u000000');
  // The sum is taken over the header with spaces in its own place.
  block.fill(0x20, 148, 156);
  octal(148, 7, block.reduce((sum, byte) => sum + byte, 0));
  block[154] = 0;
  return block;
}

function padding(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}
