// Counts words: maximal runs of ASCII letters and digits, in lower case. One JSON object, its keys sorted.
//
// timerose run guests/scripts/wordcount.js --arg @README.md
import * as std from "qjs:std";

const counts = new Map();
for (const [word] of std.in.readAsString().matchAll(/[A-Za-z0-9]+/g)) {
  const key = word.toLowerCase();
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
// Not an object: it would put words that are numbers first.
std.out.puts(`{${[...counts.keys()].sort().map((key) => `"${key}":${counts.get(key)}`).join(",")}}`);
