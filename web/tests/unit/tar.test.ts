// An archive of the page must be what the node's reader takes for a folder.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { extended, header, tar } from '../../src/lib/tar';

test('a record of an extended header counts itself', () => {
  const text = (key: string, value: string) => new TextDecoder().decode(extended(key, value));
  expect(text('path', 'a')).toBe('9 path=a\n');
  expect(text('path', 'ab')).toBe('11 path=ab\n');
  // Ninety bytes in all need two digits, a hundred need three: the length must not be one short.
  for (const n of [80, 88, 89, 90, 91, 92, 980, 990, 991, 992]) {
    const record = extended('path', 'x'.repeat(n));
    expect(Number.parseInt(new TextDecoder().decode(record), 10)).toBe(record.length);
  }
});

test('a header has the sum of its bytes', () => {
  const block = header('name', 12, '0');
  const sum = Number.parseInt(new TextDecoder().decode(block.subarray(148, 154)), 8);
  expect(sum).toBe(block.fill(0x20, 148, 156).reduce((all, byte) => all + byte, 0));
});

test('tar unpacks what was packed, whatever it is called', async () => {
  const long = `${'d'.repeat(90)}/${'f'.repeat(190)}.txt`;
  const names = ['plain.txt', 'sub/empty', long, 'Grüße/日本.txt', '<img src=x onerror=alert(1)>.txt', 'line\nbreak'];
  const items = names.map((path, i) => ({ path, file: new Blob(['x'.repeat(i * 511)]) }));
  const folder = mkdtempSync(join(tmpdir(), 'timerose-tar-'));
  try {
    writeFileSync(join(folder, 'a.tar'), new Uint8Array(await tar(items).arrayBuffer()));
    execFileSync('tar', ['-xf', 'a.tar'], { cwd: folder });
    names.forEach((name, i) => expect(readFileSync(join(folder, name)).length).toBe(i * 511));
    expect(readdirSync(folder)).toHaveLength(names.length + 1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
