# Calls handler(event, context) of /app/main.py: the event is standard input, the result goes to standard output as JSON.
# docs/scripts.md describes both. This file is compiled in every call, so it is short; failed.py is needed rarely.
import builtins, json, os, sys

out = print


def log(*words, **named):
    named.setdefault("file", sys.stderr)
    out(*words, **named)


class Context:
    function = os.getenv("TIMEROSE_FUNCTION")
    task = os.getenv("TIMEROSE_TASK")
    timeout_ms = int(os.getenv("TIMEROSE_TIMEOUT_MS"))
    args = sys.argv[1:]


# json.dumps writes down anything, whether it is JSON or not.
def is_json(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(below) for key, below in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    return value is None or isinstance(value, (str, int, bool)) or isinstance(value, float) and value - value == 0


try:
    sys.argv[0] = "/app/main.py"
    sys.path.insert(0, "/app")
    builtins.print = log
    from main import handler

    event = sys.stdin.read()
    try:
        event = json.loads(event) if event else None
    except ValueError:
        pass
    result = handler(event, Context)
    if not is_json(result):
        raise TypeError("handler gave what is no JSON: " + repr(result)[:100])
    sys.stdout.write(json.dumps(result, separators=(",", ":")))
except Exception as error:
    import failed

    failed.show(error)
