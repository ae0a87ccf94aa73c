# Calls handler(event, context) of /app/main.py: the event is standard input, the result goes to standard output as JSON.
# docs/scripts.md describes both. This file is compiled in every call, so it is short.
import os, sys
import shared


class Context:
    function = os.getenv("TIMEROSE_FUNCTION")
    task = os.getenv("TIMEROSE_TASK")
    timeout_ms = int(os.getenv("TIMEROSE_TIMEOUT_MS"))
    args = sys.argv[1:]


try:
    handler = shared.script().handler
    shared.give("handler", handler(shared.event(sys.stdin.read()), Context))
except Exception as error:
    import failed

    failed.show(error)
