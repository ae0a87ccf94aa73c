// Files and folders that somebody dropped or chose.

import type { Item } from './tar';

/** Files of one import. */
const FILES_MAX = 100_000;

/** What was chosen: one file, or a folder of files. */
export type Chosen = { kind: 'file'; name: string; file: File } | { kind: 'folder'; name: string; items: Item[] };

/** What an `input` holds; `webkitRelativePath` is there for a folder. */
export function fromInput(files: FileList): Chosen | null {
  const items = [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  return choose(items);
}

/** What was dropped, folders with all that is in them. Must be called while the event is handled. */
export async function fromDrop(data: DataTransfer): Promise<Chosen | null> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const items: { path: string; file: File }[] = [];
  for (const entry of entries) await walk(entry, '', items);
  return choose(items);
}

/** A single file stays one; a single folder is taken by its content; several things become a folder of their own. */
export function choose(items: { path: string; file: File }[]): Chosen | null {
  const first = items[0];
  if (!first) return null;
  if (items.length > FILES_MAX) throw new Error(`over ${FILES_MAX} files: add it by the command line`);
  if (items.length === 1 && !first.path.includes('/')) return { kind: 'file', name: first.file.name, file: first.file };
  const top = first.path.split('/')[0] ?? '';
  const inOne = items.every((item) => item.path.startsWith(`${top}/`));
  const named = inOne ? items.map((item) => ({ ...item, path: item.path.slice(top.length + 1) })) : items;
  return { kind: 'folder', name: inOne ? top : `${items.length} files`, items: named };
}

async function walk(entry: FileSystemEntry, prefix: string, found: { path: string; file: File }[]): Promise<void> {
  if (found.length > FILES_MAX) return;
  const path = prefix + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail));
    found.push({ path, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A reader gives a hundred entries at a time.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) break;
    for (const child of some) await walk(child, `${path}/`, found);
  }
}
