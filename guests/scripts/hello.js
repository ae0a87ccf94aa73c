// timerose run guests/scripts/hello.js --arg Ann
import * as std from "qjs:std";

const name = std.in.readAsString() || "world";
console.log(`Hello, ${[name, ...scriptArgs.slice(1)].join(" ")}!`);
