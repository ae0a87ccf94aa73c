# Counts the words of a data set, file by file near where the files lie.
#
# FN=$(timerose deploy guests/scripts/counts.py | tail -n 1)
# timerose mapreduce "$FN" "$(timerose add docs)"
import re


def map(text):
    counts = {}
    for word in re.sub("[^a-z0-9]+", " ", text.lower()).split():
        counts[word] = counts.get(word, 0) + 1
    return counts


# The values are what map or reduce gave before.
def reduce(values):
    total = {}
    for counts in values:
        for word, count in counts.items():
            total[word] = total.get(word, 0) + count
    return total
