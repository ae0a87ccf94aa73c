// A module that says one thing on its standard output or error and ends: put together by hand, since WebAssembly is bytes.

const utf8 = new TextEncoder();
const vector = (items: number[][]) => [...leb(items.length), ...items.flat()];
const sized = (bytes: number[]) => [...leb(bytes.length), ...bytes];
const name = (text: string) => sized([...utf8.encode(text)]);
const section = (id: number, bytes: number[]) => [id, ...sized(bytes)];
const constant = (value: number) => [0x41, ...signed(value)];

function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

/** Signed, of a number that is not negative. */
function signed(value: number): number[] {
  return value < 0x40 ? [value] : [(value % 0x80) | 0x80, ...signed(Math.floor(value / 0x80))];
}

/** A WASI program that writes `text` to the descriptor (1 output, 2 error) and ends with `exit`; before it, it counts. */
export function says(text: string, descriptor: 1 | 2, exit: number, count = 0): Buffer<ArrayBuffer> {
  const [I32, I64] = [0x7f, 0x7e];
  const bytes = [...utf8.encode(text)];
  const word = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];
  const types = vector([[0x60, ...vector([[I32], [I32], [I32], [I32]]), ...vector([[I32]])], [0x60, ...vector([[I32]]), 0], [0x60, 0, 0]]);
  const wasi = 'wasi_snapshot_preview1';
  const imports = vector([[...name(wasi), ...name('fd_write'), 0, 0], [...name(wasi), ...name('proc_exit'), 0, 1]]);
  // local 0 += 1 until it is `count`.
  const step = [0x20, 0, 0x42, 1, 0x7c, 0x22, 0, 0x42, ...signed(count), 0x54, 0x0d, 0];
  const spin = [0x03, 0x40, ...step, 0x0b];
  const write = [...constant(descriptor), ...constant(8), ...constant(1), ...constant(0), 0x10, 0, 0x1a];
  const end = exit === 0 ? [] : [...constant(exit), 0x10, 1];
  const body = sized([...vector([[1, I64]]), ...spin, ...write, ...end, 0x0b]);
  // At 8 stands the vector (address, length), at 16 the text.
  const data = [...word(16), ...word(bytes.length), ...bytes];
  return Buffer.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(2, imports),
    ...section(3, vector([[2]])),
    ...section(5, vector([[0, 1]])),
    ...section(7, vector([[...name('memory'), 2, 0], [...name('_start'), 0, 2]])),
    ...section(10, vector([body])),
    ...section(11, vector([[0, ...constant(8), 0x0b, ...sized(data)]])),
  ]);
}
