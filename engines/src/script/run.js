// Runs /app/main.js. With "handler" as its first argument it calls the handler(event, context) that the script exports, with
// "map" its map(text), with "reduce" its reduce(values). The event and the text are standard input, the values are its lines,
// each a JSON; the result goes to standard output as JSON. docs/scripts.md describes all of them.
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

async function call(name) {
  // What the script prints is a log, and goes to standard error.
  const log = (...words) => std.err.puts(words.map(String).join(" ") + "\n");
  globalThis.print = log;
  Object.assign(console, { log, info: log, debug: log, warn: log, error: log });
  const script = await import("/app/main.js");
  const context = {
    function: std.getenv("TIMEROSE_FUNCTION"),
    task: std.getenv("TIMEROSE_TASK"),
    timeout_ms: Number(std.getenv("TIMEROSE_TIMEOUT_MS")),
    args,
  };
  const input = std.in.readAsString();
  const values = () => input.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const given = { handler: () => [parsed(input), context], map: () => [input], reduce: () => [values()] };
  const result = await script[name](...given[name]());
  const text = JSON.stringify(result === undefined ? null : result);
  if (text === undefined) throw new TypeError(name + " gave what is no JSON: " + typeof result);
  std.out.puts(text);
}

try {
  await (mode === "script" ? import("/app/main.js") : call(mode));
  std.out.flush();
} catch (error) {
  // The frames of this file say nothing to whoever wrote the script.
  const stack = String(error?.stack ?? "").split("\n").filter((line) => line && !line.includes("/timerose/"));
  std.err.puts([String(error), ...stack].join("\n") + "\n");
  std.exit(1);
}
