// The interface `tools`: native programs.
import { call, callBytes, camel, variant } from "bulkhead:native";
import { ToolError, unwrap } from "bulkhead:errors";

const bytes = (input) => (typeof input === "string" ? new TextEncoder().encode(input) : input);
const text = (output) => new TextDecoder().decode(output);

const command = (program, args, { directory, env = {}, memoryBytes, wallMs, cpuMs, pids, outputBytes }) => ({
  program,
  arguments: args.map(String),
  directory: directory ?? null,
  environment: Object.entries(env).map(([name, value]) => [name, String(value)]),
  limits: {
    memory_bytes: memoryBytes ?? null, wall_ms: wallMs ?? null, cpu_ms: cpuMs ?? null,
    pids: pids ?? null, output_bytes: outputBytes ?? null,
  },
});

/** `{ end: "exited", code: 0 }`, `{ end: "signalled", signal: 9 }`, `{ end: "memory-limit" }`. */
const ended = (end) => {
  const [name, held] = variant(end);
  return { end: name, ok: name === "exited" && held === 0, code: name === "exited" ? held : undefined, signal: name === "signalled" ? held : undefined };
};

export const programs = () => call("programs");

export async function run(program, args = [], options = {}) {
  const [result, stdout, stderr] = callBytes("run", [command(program, args, options)], bytes(options.stdin));
  const { end, usage } = unwrap(result, `run "${program}"`, ToolError);
  const finished = { ...ended(end), stdout: text(stdout), stderr: text(stderr), usage: camel(usage) };
  // Who logs or returns a result wants its text.
  return Object.defineProperties(finished, { stdoutBytes: { value: stdout }, stderrBytes: { value: stderr } });
}

/** Kills programs that nobody holds any more. */
const abandoned = new FinalizationRegistry((id) => call("childClose", id));

class Child {
  #id;
  #program;

  constructor(id, program) {
    [this.#id, this.#program] = [id, program];
    abandoned.register(this, id);
  }

  #io(name, args, input) {
    const [result, output] = callBytes(name, [this.#id, ...args], input);
    return [unwrap(result, `${name} "${this.#program}"`, ToolError), output];
  }

  async write(input) {
    this.#io("childWrite", [], bytes(input));
  }

  async closeStdin() {
    this.#io("childCloseStdin", []);
  }

  /** The next bytes; none: the program closed its output. */
  async readBytes(from = "stdout") {
    const [more, output] = this.#io("childRead", [from === "stderr"]);
    return more ? output : undefined;
  }

  async *lines(from = "stdout") {
    const decoder = new TextDecoder();
    let rest = "";
    for (let chunk; (chunk = await this.readBytes(from)); ) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop();
      yield* lines;
    }
    rest += decoder.decode();
    if (rest) yield rest;
  }

  async wait() {
    const { end, usage } = unwrap(call("childWait", this.#id), `wait for "${this.#program}"`, ToolError);
    return { ...ended(end), usage: camel(usage) };
  }

  kill() {
    call("childKill", this.#id);
  }
}

export async function spawn(program, args = [], options = {}) {
  return new Child(unwrap(call("spawn", command(program, args, options)), `spawn "${program}"`, ToolError), program);
}
