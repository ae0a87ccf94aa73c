# What handler.py and mapreduce.py share. Compiled in every call, so it is short; failed.py is needed rarely.
import builtins, json, sys

out = print


# What a script prints is a log.
def log(*words, **named):
    named.setdefault("file", sys.stderr)
    out(*words, **named)


def script():
    sys.argv[0] = "/app/main.py"
    sys.path.insert(0, "/app")
    builtins.print = log
    import main

    return main


# Text that is no JSON is itself the event.
def event(text):
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


# json.dumps writes down anything, whether it is JSON or not.
def is_json(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(below) for key, below in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    return value is None or isinstance(value, (str, int, bool)) or isinstance(value, float) and value - value == 0


def give(name, result):
    if not is_json(result):
        raise TypeError(name + " gave what is no JSON: " + repr(result)[:100])
    sys.stdout.write(json.dumps(result, separators=(",", ":")))
