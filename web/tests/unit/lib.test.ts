// The small parts: routes, events, files, history, figures, the picture's layout.
import { expect, test } from 'vitest';
import { EventReader } from '../../src/lib/api';
import { choose } from '../../src/lib/files';
import { bytes, micros } from '../../src/lib/format';
import { load, remember } from '../../src/lib/history';
import { nodeOf } from '../../src/lib/ipld';
import { layout } from '../../src/lib/layout';
import { parse as metrics } from '../../src/lib/metrics';
import { type Route, href, parse } from '../../src/lib/route';
import { size, treeOf } from '../../src/lib/tree';

test('what a link says is what is read from it', () => {
  const routes: Route[] = [
    { page: 'run', fn: '', entry: '', args: [] },
    { page: 'run', fn: 'bafyx', entry: 'map', args: [{ text: 'a&b=c #%?/\nü' }, { cid: 'bafky' }, { text: '' }, { text: 'cid:no' }] },
    { page: 'mesh', node: 'did:key:z6Mk' },
    { page: 'data', cid: 'bafyx', path: ['a b', 'c/d', '<x>', '%41'] },
    { page: 'jobs', fn: 'bafyx', dataset: 'bafyy', job: 'bafyz' },
  ];
  for (const route of routes) expect(parse(href(route))).toEqual(route);
  expect(parse('').page).toBe('run');
  expect(parse('#/nowhere/at/all?%')).toEqual({ page: 'run', fn: '', entry: '', args: [] });
  expect(parse('#/data/%zz')).toEqual({ page: 'data', cid: '%zz', path: [] });
});

test('a node is known by its peer id, and other peers are no nodes', () => {
  expect(nodeOf('12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5')).toBe('did:key:z6Mkon3Necd6NkkyfoGoHxid2znGc59LU3K7mubaRcFbLfLX');
  // Of an RSA key, cut off, and no peer id at all.
  for (const other of ['QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N', '12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH', '0OIl', '']) expect(nodeOf(other)).toBeNull();
});

test('events are whole, wherever the stream was cut', () => {
  const stream = ': keep\n\nevent: progress\ndata: {"done":1}\n\nevent: result\ndata: {"a":"x\\n"}\n\n';
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const reader = new EventReader();
    const events = [...reader.take(stream.slice(0, cut)), ...reader.take(stream.slice(cut))];
    expect(events).toEqual([{ name: 'progress', data: { done: 1 } }, { name: 'result', data: { a: 'x\n' } }]);
  }
});

test('a folder is taken by its content, several things become one', () => {
  const item = (path: string) => ({ path, file: new File(['x'], path.split('/').at(-1) ?? '') });
  expect(choose([])).toBeNull();
  expect(choose([item('a')])?.kind).toBe('file');
  const folder = choose([item('top/a'), item('top/sub/b')]);
  expect(folder).toMatchObject({ kind: 'folder', name: 'top', items: [{ path: 'a' }, { path: 'sub/b' }] });
  expect(choose([item('a'), item('b')])).toMatchObject({ kind: 'folder', items: [{ path: 'a' }, { path: 'b' }] });
  expect(choose([item('top/a'), item('b')])).toMatchObject({ kind: 'folder', items: [{ path: 'top/a' }, { path: 'b' }] });
});

test('history is bounded, newest first, and survives what is broken', () => {
  const kept = new Map<string, string>();
  const store = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  const run = (at: number, text = '') => ({ at, label: 'x', fn: 'f', entry: 'e', args: [{ text }], result: 'r', total_us: 1 });
  for (let at = 0; at < 40; at += 1) remember(run(at), store);
  expect(load(store).map((one) => one.at)).toEqual(Array.from({ length: 30 }, (_, i) => 39 - i));
  expect(remember(run(99, 'x'.repeat(5000)), store)[0]?.at).toBe(39);
  for (const broken of ['{', '{}', '[1, null, {"at": 1}, {"args": 3}]']) {
    kept.set('timerose.history', broken);
    expect(load(store)).toEqual([]);
  }
});

test('figures are short', () => {
  expect([0, 1023, 1024, 10 * 1024, 5 << 20].map(bytes)).toEqual(['0 B', '1023 B', '1.0 KiB', '10 KiB', '5.0 MiB']);
  expect([0, 999, 1500, 25_000, 2_500_000].map(micros)).toEqual(['0 µs', '999 µs', '1.5 ms', '25 ms', '2.5 s']);
});

test('every node of the picture is inside it and apart from the others', () => {
  for (const [width, height] of [[1100, 380], [360, 460]] as const) {
    for (const regions of [1, 2, 3, 5]) {
      const members = Array.from({ length: 3 * regions }, (_, i) => ({ id: `n${i}`, region: `r${i % regions}` }));
      const { nodes } = layout(members, width, height);
      expect(nodes).toHaveLength(members.length);
      for (const { at } of nodes) {
        expect(at.x > 14 && at.x < width - 14 && at.y > 14 && at.y < height - 14, `${width} ${regions}`).toBe(true);
      }
      const apart = nodes.every((a) => nodes.every((b) => a === b || Math.hypot(a.at.x - b.at.x, a.at.y - b.at.y) > 26));
      expect(apart, `${width} x ${height}, ${regions} regions`).toBe(true);
    }
  }
});

test('counters are read with their meaning, series with labels are not', () => {
  const text = '# HELP t_runs_total Runs.\n# TYPE t_runs_total counter\nt_runs_total 3\nt_x{a="b"} 4\n# EOF\n';
  expect(metrics(text)).toEqual([{ name: 't_runs_total', help: 'Runs.', value: 3 }]);
});

test('a tree knows links, bytes and an end', () => {
  const tree = treeOf({ a: [1, null], b: new Uint8Array(2), c: 'L' }, (value) => (value === 'L' ? 'bafy' : null));
  expect(size(tree)).toBe(3);
  expect(tree).toMatchObject({ entries: [['a', { kind: 'list' }], ['b', { kind: 'bytes' }], ['c', { kind: 'link', cid: 'bafy' }]] });
  let deep: unknown = 1;
  for (let i = 0; i < 5000; i += 1) deep = [deep];
  expect(() => treeOf(deep)).not.toThrow();
});
