// Examples to load: functions that come with the page, and what to call them with.

import wordcountCommand from '../../../guests/built/wordcount-command.wasm?url';
import wordcountFan from '../../../guests/built/wordcount-fan.wasm?url';

export interface Example {
  name: string;
  about: string;
  /** Where its module is. */
  url: string;
  file: string;
  /** The fields of its manifest, as docs/functions.md has them. */
  manifest: Record<string, unknown>;
  entry: string;
  args: string[];
}

const limits = { memory: 256 << 20, timeout_ms: 30_000, output: 64 << 20 };
const text = `The rose is a rose,
And was always a rose.
But the theory now goes
That the apple's a rose.
`;

/** The word count of the demonstration, whose `map` and `reduce` a job needs. */
export const wordCount: Example = {
  name: 'Word count',
  about: 'map counts the words of a text, reduce adds up counts',
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
  args: [text],
};

export const examples: Example[] = [
  wordCount,
  {
    name: 'Word count, as a WASI program',
    about: 'reads standard input, writes standard output',
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
    args: [text],
  },
];
