// Counts the words of a data set, file by file near where the files lie.
//
// FN=$(timerose deploy guests/scripts/counts.js | tail -n 1)
// timerose mapreduce "$FN" "$(timerose add docs)"

function sum(counts, word, count) {
  counts[word] = (counts[word] ?? 0) + count;
  return counts;
}

export function map(text) {
  const words = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return words.reduce((counts, word) => sum(counts, word, 1), Object.create(null));
}

// The values are what map or reduce gave before.
export function reduce(values) {
  return values.flatMap(Object.entries).reduce((total, [word, count]) => sum(total, word, count), Object.create(null));
}
