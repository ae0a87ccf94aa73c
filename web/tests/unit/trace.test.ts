// Traces: spans in their places, ids, and what a guest wrote.
import { expect, test } from 'vitest';
import { type Span, begin, visible, waterfall } from '../../src/lib/trace';

function span(id: string, parent: string | null, start: number, took: number): Span {
  return { span: id, parent, name: id, node: 'n', region: null, start_unix_us: start, duration_us: took, facts: {}, events: [], failure: null };
}

test('each span stands below its cause, and what names no cause that is there stands at the top', () => {
  const spans = [span('run', 'execute', 50, 10), span('orphan', 'gone', 90, 10), span('root', null, 10, 70), span('execute', 'root', 20, 50)];
  const { rows, total_us } = waterfall(spans);
  expect(rows.map((row) => [row.span.name, row.depth, row.at_us])).toEqual([['root', 0, 0], ['execute', 1, 10], ['run', 2, 40], ['orphan', 0, 80]]);
  expect(total_us).toBe(90);
});

test('hostile spans neither go round for ever nor stand twice', () => {
  const spans = [span('a', 'b', 0, 1), span('b', 'a', 0, 1), span('c', null, 0, 1), span('c', null, 0, 1), span('d', 'd', 0, 1)];
  expect(waterfall(spans).rows.map((row) => row.span.name)).toEqual(['c']);
});

test('a trace begins with ids as W3C Trace Context writes them', () => {
  const { id, header } = begin();
  expect(header).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  expect(header).toContain(id);
  expect(begin().id).not.toBe(id);
});

test('what a guest wrote does not hide or turn around what stands there', () => {
  expect(visible('a\u001b[2J\tb\n\u202ec\r')).toBe('a\\u{1b}[2J\tb\n\\u{202e}c\\u{d}');
});
