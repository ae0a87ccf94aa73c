# timerose run guests/scripts/hello.py --arg Ann
import sys

name = sys.stdin.read() or "world"
print("Hello, " + " ".join([name] + sys.argv[1:]) + "!")
