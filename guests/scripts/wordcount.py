# Counts words: maximal runs of ASCII letters and digits, in lower case. One JSON object, its keys sorted.
#
# timerose run guests/scripts/wordcount.py --arg @README.md
import sys

counts = {}
word = bytearray()
for line in sys.stdin.buffer:
    for byte in line + b"\n":
        if 65 <= byte <= 90:
            byte += 32
        if 97 <= byte <= 122 or 48 <= byte <= 57:
            word.append(byte)
        elif word:
            key = word.decode()
            counts[key] = counts.get(key, 0) + 1
            word = bytearray()
sys.stdout.write("{" + ",".join('"%s":%d' % (key, counts[key]) for key in sorted(counts)) + "}")
