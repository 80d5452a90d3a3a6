// An agent as the original container has it: one small HTTP server in a process of its own, that its
// supervisor starts, waits for and sends messages to. Runs in node and in bun, with the server that users of
// each would take. It answers every message with its body, as `guest/echo` does, and misbehaves as
// the test programs `puppet`, `spin` and `oom` do.
//
// | prompt | what it does |
// | --- | --- |
// | `panic` | throws an error that nobody catches |
// | `spin` | loops for ever |
// | `hoard` | takes memory until it is stopped |
// | `hoard <MiB>` | takes that much, then answers |

const port = Number(process.env.PORT ?? 0);
const kept = [];
const MIB = 1024 * 1024;

function hoard(mib) {
  for (let taken = 0; taken < mib; taken += 1) {
    // Objects on the heap, so that a limit on the heap sees them. Eight bytes each.
    kept.push(new Array(MIB / 8).fill(taken + 0.5));
  }
}

// The reply, or nothing when the answer is never to come.
function obey(prompt) {
  const [verb, rest] = prompt.split(" ");
  if (verb === "panic") {
    setImmediate(() => {
      throw new Error("told to panic");
    });
    return undefined;
  }
  if (verb === "spin") for (;;);
  if (verb === "hoard") hoard(rest === undefined ? Infinity : Number(rest));
  return JSON.stringify({ reply: prompt });
}

function listening(port) {
  console.log(`listening on 127.0.0.1:${port}`);
}

if (globalThis.Bun) {
  const json = { headers: { "content-type": "application/json" } };
  const server = Bun.serve({
    port,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (request.method === "GET") return new Response("{}", json);
      const reply = obey((await request.json()).prompt);
      return reply === undefined ? new Promise(() => {}) : new Response(reply, json);
    },
  });
  listening(server.port);
} else {
  const { createServer } = await import("node:http");
  const answer = (response, body) => {
    const length = Buffer.byteLength(body);
    response.writeHead(200, { "content-type": "application/json", "content-length": length });
    response.end(body);
  };
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    if (request.method === "GET") return answer(response, "{}");
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const reply = obey(JSON.parse(Buffer.concat(parts).toString()).prompt);
      if (reply !== undefined) answer(response, reply);
    });
  });
  server.listen(port, "127.0.0.1", () => listening(server.address().port));
}
