// What bytes are taken for, and that nothing which could hold a script is taken for a picture.
import { expect, test } from 'vitest';
import { classify, dump, sorted, tabulate } from '../../src/lib/render';

const utf8 = (text: string) => new Uint8Array(new TextEncoder().encode(text));
const kind = (bytes: Uint8Array<ArrayBuffer>, whole = true) => classify(bytes, whole).kind;

test('bytes are what they begin with', () => {
  expect(kind(new Uint8Array())).toBe('empty');
  expect(kind(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0]))).toBe('image');
  expect(kind(utf8('{"a": 1}'))).toBe('json');
  expect(kind(utf8('[1, 2'))).toBe('text');
  expect(kind(utf8('42'))).toBe('text');
  expect(kind(new Uint8Array([0xff, 0xfe, 0]))).toBe('bytes');
  expect(kind(new Uint8Array([104, 105, 0, 1]))).toBe('bytes');
});

test('what could hold a script is text', () => {
  for (const text of ['<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', '<!doctype html><script>alert(1)</script>']) {
    expect(kind(utf8(text))).toBe('text');
  }
});

test('the beginning of a file is never taken for all of it', () => {
  expect(kind(utf8('{"a": 1}'), false)).toBe('text');
  // The last character may be cut in two.
  expect(kind(utf8('grün').subarray(0, 3), false)).toBe('text');
});

test('plain objects are tables, nested ones are not', () => {
  expect(tabulate({ a: 1, b: 'x' })).toEqual({ columns: ['key', 'value'], rows: [['a', 1], ['b', 'x']] });
  expect(tabulate([{ a: 1 }, { b: 2 }])).toEqual({ columns: ['a', 'b'], rows: [[1, null], [null, 2]] });
  for (const value of [{}, [], { a: [1] }, [1, 2], [{ a: {} }], 'x', null]) expect(tabulate(value)).toBeNull();
});

test('rows are sorted by number where they are numbers', () => {
  const table = { columns: ['word', 'n'], rows: [['b', 9], ['a', 10], ['c', 1]] };
  expect(sorted(table, 1, true).map((row) => row[1])).toEqual([10, 9, 1]);
  expect(sorted(table, 0, false).map((row) => row[0])).toEqual(['a', 'b', 'c']);
});

test('a dump is sixteen bytes a line', () => {
  expect(dump(utf8('ABCDEFGHIJKLMNOPQ'))).toBe(
    '00000000  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP\n' +
      '00000010  51                                               Q',
  );
});
