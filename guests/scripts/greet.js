// The function of TimeRose's first demonstration (2021), as a Lambda in JavaScript.
//
// timerose run guests/scripts/greet.js --arg '{"name": "Ann"}'

export async function handler(event, context) {
  const name = event?.name ?? String(event ?? "world");
  console.log("greeting", name);
  return { statusCode: 200, body: `Hello, ${name}!` };
}
