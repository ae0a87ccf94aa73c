# Calls map(text) or reduce(values) of /app/main.py: the text is standard input; the values are its lines, each a JSON.
# docs/scripts.md describes both.
import json, sys
import shared

try:
    name, script = sys.argv[1], shared.script()
    if name == "map":
        result = script.map(sys.stdin.read())
    else:
        result = script.reduce([json.loads(line) for line in sys.stdin if line.strip()])
    shared.give(name, result)
except Exception as error:
    import failed

    failed.show(error)
