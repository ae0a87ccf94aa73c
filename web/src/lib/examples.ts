// Examples to load: scripts, and functions that come with the page.

import wordcountCommand from '../../../guests/built/wordcount-command.wasm?url';
import wordcountFan from '../../../guests/built/wordcount-fan.wasm?url';
import type { Language } from './functions';

interface About {
  name: string;
  about: string;
  args: string[];
}

export interface TextExample extends About {
  language: Language;
  text: string;
}

export interface ModuleExample extends About {
  /** Where its module is. */
  url: string;
  file: string;
  /** The fields of its manifest, as docs/functions.md has them. */
  manifest: Record<string, unknown>;
  entry: string;
}

export type Example = TextExample | ModuleExample;

const limits = { memory: 256 << 20, timeout_ms: 30_000, output: 64 << 20 };
const verse = `The rose is a rose,
And was always a rose.
But the theory now goes
That the apple's a rose.
`;

/** What one reads first. */
export const greeting: TextExample = {
  name: 'Python handler',
  about: 'a handler as a Lambda has it: an event in, a value out',
  language: 'python',
  text: `# The event is the first argument.


def handler(event, context):
    name = event.get("name", "world")
    return {"greeting": "Hello, " + name + "!", "letters": len(name)}
`,
  args: ['{"name": "Ann"}'],
};

const primes: TextExample = {
  name: 'Python',
  about: 'a program: standard input and arguments in, standard output out',
  language: 'python',
  text: `# The first argument is the standard input.
import sys

limit = int(sys.stdin.read() or 100)
sieve = [True] * (limit + 1)
for n in range(2, limit + 1):
    if sieve[n]:
        print(n)
        for multiple in range(n * n, limit + 1, n):
            sieve[multiple] = False
`,
  args: ['1000'],
};

const words: TextExample = {
  name: 'JavaScript',
  about: 'a handler in JavaScript',
  language: 'javascript',
  text: `// The event is the first argument.
export function handler(event) {
  const counts = {};
  for (const word of String(event).toLowerCase().match(/[a-z0-9]+/g) ?? []) {
    counts[word] = (counts[word] ?? 0) + 1;
  }
  return counts;
}
`,
  args: [verse],
};

const assembled: TextExample = {
  name: 'WebAssembly text',
  about: 'a WASI program by hand',
  language: 'wat',
  text: `(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; At 8: where the text stands, and how long it is.
  (data (i32.const 8) "\\10\\00\\00\\00\\10\\00\\00\\00")
  (data (i32.const 16) "Hello, by hand!\\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))
`,
  args: [''],
};

/** The word count of the demonstration, whose `map` and `reduce` a job needs. */
export const wordCount: ModuleExample = {
  name: 'Word count',
  about: 'a module whose map counts the words of a text and whose reduce adds up counts',
  url: wordcountFan,
  file: 'wordcount-fan.wasm',
  manifest: {
    engine: 'wasm-fan',
    determinism: 'pure',
    limits,
    entries: [
      { name: 'map', params: [{ name: 'text', type: 'bytes' }], result: 'json' },
      { name: 'reduce', params: [{ name: 'counts', type: 'json' }], variadic: true, result: 'json' },
    ],
    about: { name: 'wordcount', description: 'Counts the words of a text (map) and adds up counts (reduce).' },
  },
  entry: 'map',
  args: [verse],
};

const wordCountProgram: ModuleExample = {
  name: 'Word count, as a program',
  about: 'a WASI module: standard input in, standard output out',
  url: wordcountCommand,
  file: 'wordcount-command.wasm',
  manifest: {
    engine: 'wasm-command',
    determinism: 'pure',
    limits,
    entries: [{ name: '_start', params: [{ name: 'text', type: 'bytes' }], result: 'json' }],
    about: { name: 'wordcount', description: 'Counts the words of its standard input.' },
  },
  entry: '_start',
  args: [verse],
};

export const examples: Example[] = [greeting, primes, words, assembled, wordCount, wordCountProgram];

/** What the editor begins with, by language. */
export const beginnings: Record<Language, TextExample> = { python: greeting, javascript: words, wat: assembled };
