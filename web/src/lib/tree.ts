// JSON and DAG-CBOR values as one kind of tree.

/** A value that can be shown. */
export type Tree =
  | { kind: 'map'; entries: [string, Tree][] }
  | { kind: 'list'; items: Tree[] }
  | { kind: 'link'; cid: string }
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'text'; text: string }
  | { kind: 'scalar'; text: string };

/** How deep a tree is followed; what is deeper is named and not shown. */
const DEPTH_MAX = 100;

/** Makes a tree of a decoded value. `link` tells which values are links, and gives their CID. */
export function treeOf(value: unknown, link: (value: unknown) => string | null = () => null, depth = 0): Tree {
  const cid = link(value);
  if (cid !== null) return { kind: 'link', cid };
  if (depth > DEPTH_MAX) return { kind: 'scalar', text: '(deeper)' };
  if (value instanceof Uint8Array) return { kind: 'bytes', bytes: value };
  if (Array.isArray(value)) return { kind: 'list', items: value.map((item) => treeOf(item, link, depth + 1)) };
  if (typeof value === 'string') return { kind: 'text', text: value };
  if (typeof value === 'object' && value !== null) {
    return { kind: 'map', entries: Object.entries(value).map(([key, item]) => [key, treeOf(item, link, depth + 1)]) };
  }
  return { kind: 'scalar', text: String(value) };
}

/** How many values are directly below. */
export function size(tree: Tree): number {
  if (tree.kind === 'map') return tree.entries.length;
  return tree.kind === 'list' ? tree.items.length : 0;
}
