// Runs /app/main.js. With "handler" as its first argument it calls the handler(event, context) that the script exports: the
// event is standard input, the result goes to standard output as JSON. docs/scripts.md describes both.
import * as std from "qjs:std";
import * as os from "qjs:os";

const [, mode, ...args] = scriptArgs;
globalThis.scriptArgs = ["/app/main.js", ...args];
Object.assign(globalThis, { setTimeout: os.setTimeout, clearTimeout: os.clearTimeout });

function parsed(text) {
  try {
    return text.trim() ? JSON.parse(text) : null;
  } catch {
    return text;
  }
}

async function callHandler() {
  // What the script prints is a log, and goes to standard error.
  const log = (...words) => std.err.puts(words.map(String).join(" ") + "\n");
  globalThis.print = log;
  Object.assign(console, { log, info: log, debug: log, warn: log, error: log });
  const { handler } = await import("/app/main.js");
  const context = {
    function: std.getenv("TIMEROSE_FUNCTION"),
    task: std.getenv("TIMEROSE_TASK"),
    timeout_ms: Number(std.getenv("TIMEROSE_TIMEOUT_MS")),
    args,
  };
  const result = await handler(parsed(std.in.readAsString()), context);
  const text = JSON.stringify(result === undefined ? null : result);
  if (text === undefined) throw new TypeError("handler gave what is no JSON: " + typeof result);
  std.out.puts(text);
}

try {
  await (mode === "handler" ? callHandler() : import("/app/main.js"));
  std.out.flush();
} catch (error) {
  // The frames of this file say nothing to whoever wrote the script.
  const stack = String(error?.stack ?? "").split("\n").filter((line) => line && !line.includes("/timerose/"));
  std.err.puts([String(error), ...stack].join("\n") + "\n");
  std.exit(1);
}
