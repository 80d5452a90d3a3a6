/**
 * What an agent of Bulkhead is written with in JavaScript and TypeScript. The module is built into the runner: nothing is
 * installed, and this file is for editors and type checkers.
 *
 * ```js
 * import { agent } from "@bulkhead/agent";
 *
 * export default agent({
 *   system: "Answer briefly.",
 *   async message({ text }, { chat, emit }) {
 *     for await (const part of chat.stream(text)) emit("answer.delta", { part });
 *     return chat.text;
 *   },
 * });
 * ```
 */
declare module "@bulkhead/agent" {
  /** Anything that JSON can say. */
  export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

  /** What an agent is made of. All of it may be left out: without `message` the agent answers by its model. */
  export interface AgentSpec<State extends object = Record<string, any>> {
    /** Standing instructions for the model. What people set for the agent comes before it. */
    system?: string | ((context: Context<State>) => string);
    /** The first state. It is JSON: it is in the snapshot, and the next incarnation has it. */
    state?: State;
    /** What the model may call. */
    tools?: Record<string, Tool>;
    /** Answers with tool calls in one turn. 8, if it is not set. */
    maxRounds?: number;
    /** What of the conversation is remembered: 200 messages and 256 KiB, if it is not set. */
    history?: { maxMessages?: number; maxBytes?: number };
    /** Makes the agent ready. Keep it short: the caller of the start waits for it. */
    start?(context: Context<State>): void | Promise<void>;
    /** Works on one message: a turn. Returns the reply: text, or a JSON value, or how the turn ends. */
    message?(message: Message, context: Context<State>): Reply | Outcome | Promise<Reply | Outcome>;
    /** The last call. */
    shutdown?(reason: "stopped" | "drained" | "superseded" | "evicted" | "idle", context: Context<State>): void | Promise<void>;
  }

  export type Reply = void | null | string | number | boolean | bigint | object;

  /** Made by `done` and `again`. */
  export interface Outcome {
    reply?: Reply;
    next: "idle" | "continue" | "done";
  }

  /** Made by `agent`: the entry file's default export. */
  export interface Agent {
    readonly spec: AgentSpec<any>;
  }

  /** Makes an agent. A field that there is not is a `TypeError`. */
  export function agent<State extends object = Record<string, any>>(spec: AgentSpec<State>): Agent;

  /** The last answer: the incarnation ends as completed, and its state and conversation are removed. */
  export function done(reply?: Reply): Outcome;

  /** Another turn at once, for the same message. Between the two the host may take a snapshot or stop the agent. */
  export function again(reply?: Reply): Outcome;

  type Base = "string" | "number" | "integer" | "boolean" | "object" | "array";
  /** `"string"`, `"string?"` if it may be missing, `"string[]"` for a list, or a JSON Schema. */
  export type Parameter = Base | `${Base}?` | `${Base}[]` | `${Base}[]?` | { [key: string]: Json };

  export interface Tool {
    readonly description: string;
    readonly parameters: object;
    readonly run: (args: any, context: Context<any>) => unknown;
  }

  /**
   * Something that the model may call. `parameters` is an object of types by name, or a whole JSON Schema. The model
   * reads what `run` returns, as text or JSON. An `AgentError` or a failed call of the host is told to the model; any
   * other exception is a defect and ends the incarnation.
   */
  export function tool(
    description: string,
    parameters: Record<string, Parameter> | object,
    run: (args: any, context: Context<any>) => unknown,
  ): Tool;

  export interface Message {
    readonly id: string;
    readonly text: string;
    /** The id of the agent that sent it, or `operator`, `prompt`, `nudge`, `continuation`. */
    readonly from: string;
    readonly sender: { kind: "operator" | "agent" | "prompt" | "nudge" | "continuation"; id?: string };
    /** 1 when it comes for the first time. */
    readonly attempt: number;
  }

  /**
   * What an agent may do. Its functions can be taken out: `({ emit, send }) => …`. Calls of the host block, also those that return
   * promises (`chat`, `model`, `run`, `Child`, `workspace`, files): timers and other promises wait for them.
   */
  export interface Context<State = Record<string, any>> {
    /** Who the agent is, and what it was asked to do. */
    readonly me: {
      readonly id: string; readonly role: string; readonly name: string; readonly town?: string; readonly rig?: string;
      readonly incarnation: number; readonly prompt: string; readonly systemPrompt?: string; readonly model?: string;
      readonly smallModel?: string; readonly restored: boolean;
    };
    /** What outlives the incarnation. JSON: with a `Map`, a `BigInt` or a function in it there is no snapshot (`snapshot-failed`). */
    state: State;
    /** The agent's conversation with its model. */
    readonly chat: Chat;
    /** The model without a conversation. */
    readonly model: Model;
    /** Publishes an event. */
    emit(name: string, data?: unknown): void;
    /** Puts a message into another agent's mailbox, and returns its id. */
    send(agentId: string, body: unknown): string;
    readonly log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: unknown, fields?: Record<string, unknown>) => void>;
    /** A configuration value. */
    config(key: string): string | undefined;
    config<T>(key: string, fallback: T): string | T;
    /** What may change while the agent lives. */
    settings(): { revision: number; model?: string; smallModel?: string; systemPrompt?: string; dashboardContext?: string };
    /** Bytes. */
    memory(): { usedBytes: number; hostBytes: number; peakBytes: number; softBytes: number; limitBytes: number };
    /** Milliseconds that this call may still take. */
    deadline(): number;
    /** Takes the nudges that wait. */
    nudges(): { id: string; body: string; source: string }[];
    setActiveTools(names: string[]): void;
    /**
     * Work that goes on after the reply is known. The turn ends when it is done, and at the turn's deadline without it;
     * nothing runs between two turns. If it is rejected, that is reported as `agent.unhandled_rejection`.
     */
    waitUntil(promise: PromiseLike<unknown>): void;

    /** Names of the programs that the agent may run. */
    programs(): string[];
    /** Runs a native program to its end, in the workspace. */
    run(program: string, args?: (string | number)[], options?: RunOptions & { stdin?: string | Uint8Array }): Promise<Finished>;
    /** Starts a native program. */
    spawn(program: string, args?: (string | number)[], options?: RunOptions): Promise<Child>;
    /** The repository that the agent works on. */
    readonly workspace: Workspace;

    /** Files. Relative paths begin in the workspace. */
    readFile(path: string): Promise<string>;
    readBytes(path: string): Promise<Uint8Array>;
    writeFile(path: string, contents: string | Uint8Array): Promise<void>;
    appendFile(path: string, contents: string | Uint8Array): Promise<void>;
    list(path?: string): Promise<{ name: string; kind: "file" | "directory" | "link" }[]>;
    stat(path: string): Promise<{ kind: "file" | "directory" | "link"; size: number; modifiedMs?: number }>;
    makeDir(path: string): Promise<void>;
    remove(path: string, options?: { recursive?: boolean }): Promise<void>;
    rename(from: string, to: string): Promise<void>;
  }

  export interface Chat {
    /** Asks, and yields the answer's text as it comes. Tools that the model calls are run on the way. */
    stream(input: string | Content[], options?: ChatOptions): AsyncGenerator<string, void>;
    /** Asks, and returns the whole answer. Several at once are asked one after the other. */
    ask(input: string | Content[], options?: ChatOptions): Promise<string>;
    /** The last answer to any of the questions. */
    readonly text: string;
    /** Whole exchanges, oldest first. In the snapshot. */
    history: ChatMessage[][];
  }

  export interface ChatOptions extends ModelOptions {
    /** Instead of the agent's. */
    system?: string;
    tools?: Record<string, Tool>;
    maxRounds?: number;
  }

  export type Content = { type: "text"; text: string } | { type: "image_url"; image_url: { url: string } };

  export interface ToolCall {
    id: string;
    type: "function";
    function: { name: string; arguments: string };
  }

  export interface ChatMessage {
    role: "system" | "user" | "assistant" | "tool";
    content: string | Content[];
    tool_calls?: ToolCall[];
    tool_call_id?: string;
    /** Of `assistant`: the `reasoningState` of the answer that it is. Models that think may refuse tools' results without it. */
    reasoning_state?: string;
  }

  export interface ModelOptions {
    /** One of the role's models, by its name in the host's configuration. */
    endpoint?: string;
    model?: string;
    toolChoice?: "auto" | "none" | "required" | { name: string };
    responseFormat?: "text" | "json" | { schema: object };
    temperature?: number;
    maxTokens?: number;
    timeoutMs?: number;
    /** Fields that are added to the request's JSON. */
    extra?: object;
  }

  export interface ModelRequest extends ModelOptions {
    messages: ChatMessage[];
    tools?: { name: string; description: string; parameters: object }[];
  }

  export type FinishReason = "stop" | "tool-calls" | "length" | "content-filter" | "other";
  export interface Usage {
    inputTokens: number; cachedTokens: number; outputTokens: number; reasoningTokens: number;
  }
  export type Part =
    | { type: "text" | "reasoning"; text: string }
    | { type: "tool-call"; call: ToolCall }
    | { type: "end"; finishReason: FinishReason; usage?: Usage; reasoningState?: string };

  export interface Model {
    /** What is wrong with the request is thrown at once, everything else on the way. */
    stream(request: ModelRequest): AsyncGenerator<Part, void>;
    complete(request: ModelRequest): Promise<{
      text: string; reasoning: string; toolCalls: ToolCall[]; finishReason: FinishReason; usage?: Usage; reasoningState?: string;
    }>;
  }

  export interface RunOptions {
    directory?: string;
    env?: Record<string, string | number>;
    memoryBytes?: number;
    wallMs?: number;
    cpuMs?: number;
    pids?: number;
    outputBytes?: number;
  }

  export interface Ended {
    end:
      | "exited" | "signalled" | "wall-deadline" | "cpu-deadline" | "memory-limit" | "output-limit" | "pids-limit"
      | "workspace-limit" | "cancelled" | "evicted" | "lost";
    /** It exited with 0. */
    ok: boolean;
    code?: number;
    signal?: number;
    usage: { wallMs: number; cpuMs: number; peakMemoryBytes: number; outputBytes: number };
  }

  export interface Finished extends Ended {
    stdout: string;
    stderr: string;
    stdoutBytes: Uint8Array;
    stderrBytes: Uint8Array;
  }

  /** A program that runs. It goes on between turns, and is killed when nobody holds it. */
  export interface Child {
    write(input: string | Uint8Array): Promise<void>;
    closeStdin(): Promise<void>;
    readBytes(from?: "stdout" | "stderr"): Promise<Uint8Array | undefined>;
    lines(from?: "stdout" | "stderr"): AsyncGenerator<string, void>;
    wait(): Promise<Ended>;
    kill(): void;
  }

  export type ChangeKind =
    | "unchanged" | "modified" | "type-changed" | "added" | "deleted" | "renamed" | "copied" | "unmerged" | "untracked";

  export interface Workspace {
    status(): Promise<{
      branch?: string; head?: string; ahead: number; behind: number; truncated: boolean;
      changes: { path: string; before?: string; staged: ChangeKind; unstaged: ChangeKind }[];
    }>;
    diff(options?: { against?: "head" | "upstream"; maxBytes?: number }): Promise<{ text: string; bytes: Uint8Array; truncated: boolean }>;
    /** Commits these paths, or everything. Undefined: there is nothing to commit. */
    commit(message: string, paths?: string[]): Promise<string | undefined>;
    log(max?: number): Promise<{ id: string; author: string; time: number; subject: string }[]>;
    fetch(): Promise<string | undefined>;
    rebase(): Promise<string>;
    push(): Promise<string>;
    checkpoint(name: string): Promise<number>;
    restore(checkpoint: number): Promise<void>;
  }

  /** A failure that the agent chooses to report: the turn's caller gets `code`, in kebab case of at most 64 characters. `fatal` ends the incarnation. */
  export class AgentError extends Error {
    constructor(code: string, message: string, options?: { fatal?: boolean; cause?: unknown });
    readonly code: string;
    readonly fatal: boolean;
  }

  /** The host refused a call. Uncaught it is a defect, as any other exception. */
  export class HostError extends Error {
    /** `invalid`, `too-large`, `not-found`, `unavailable`, `rate-limited`, and those of its subclasses. */
    readonly code: string;
    readonly detail: unknown;
  }
  /** A native program was not run. */
  export class ToolError extends HostError {
    readonly code: "invalid" | "denied" | "not-found" | "unavailable";
  }
  /** A call on the repository failed. */
  export class WorkspaceError extends HostError {
    readonly code: "invalid" | "conflict" | "rejected" | "unclean" | "too-large" | "remote-failed" | "unavailable";
  }
  /** A file could not be read or changed. */
  export class FileError extends HostError {}

  /**
   * There is no answer to a request of `fetch`. Uncaught it fails the turn with the code `http-` and this one, and the agent stays
   * alive.
   */
  export class FetchError extends TypeError {
    /** `denied`: the role's `http_allow`; `unavailable`: no connection; `broken`: it ended in the midst. */
    readonly code: "denied" | "invalid" | "timeout" | "unavailable" | "broken";
  }

  /** There is no answer of the model. Uncaught it fails the turn, and the agent stays alive. */
  export class ModelError extends AgentError {
    readonly reason:
      | "invalid" | "denied" | "budget-exceeded" | "unavailable" | "rate-limited" | "rejected" | "bad-answer" | "timeout"
      | "cancelled";
    readonly retryMs?: number;
    readonly status?: number;
  }
}
