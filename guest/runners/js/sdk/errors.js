import { variant } from "bulkhead:native";

const named = (type, name) => Object.defineProperty(type.prototype, "name", { value: name, configurable: true, writable: true });

const MAX_CODE = 64;
const KEBAB_CASE = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

/** A failure that the agent reports about itself. Unlike other exceptions it is no defect of the agent's code. */
export class AgentError extends Error {
  constructor(code, message, { fatal = false, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    if (typeof code !== "string" || code.length > MAX_CODE || !KEBAB_CASE.test(code)) {
      throw new TypeError(`the code of an AgentError is at most ${MAX_CODE} lower-case letters, digits and "-", as in "bad-input", not "${String(code).slice(0, 100)}"`);
    }
    this.code = code;
    this.fatal = Boolean(fatal);
  }
}
named(AgentError, "AgentError");

/** The host refused a call. `code` is the contract's word: `invalid`, `too-large`, `not-found`, … */
export class HostError extends Error {
  constructor(what, code, detail) {
    super(`${what}: ${words(code, detail)}`);
    this.code = code;
    this.detail = detail;
  }
}
named(HostError, "HostError");

/** A native program was not run. */
export class ToolError extends HostError {}
named(ToolError, "ToolError");

/** A call on the repository failed. */
export class WorkspaceError extends HostError {}
named(WorkspaceError, "WorkspaceError");

/** A file could not be read or changed. */
export class FileError extends HostError {}
named(FileError, "FileError");

/**
 * There is no answer to a request. `code`: `denied`, `invalid`, `timeout`, `unavailable` (no connection) or `broken`. Uncaught, it
 * fails the turn, and the agent stays alive.
 */
export class FetchError extends TypeError {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
named(FetchError, "FetchError");

/** There is no answer of the model. Uncaught, it fails the turn, and the agent stays alive. */
export class ModelError extends AgentError {
  constructor(reason, detail) {
    super(MODEL_CODES[reason] ?? "model-unavailable", `model: ${words(reason, detail)}`);
    this.reason = reason;
    this.retryMs = reason === "rate-limited" ? (detail ?? undefined) : (detail?.retry_ms ?? undefined);
    this.status = detail?.status;
  }
}
named(ModelError, "ModelError");

/** As the SDK of Rust maps them. */
const MODEL_CODES = {
  unavailable: "model-unavailable", "rate-limited": "model-unavailable", timeout: "model-unavailable",
  rejected: "model-refused", "bad-answer": "model-bad-answer", denied: "model-denied", invalid: "model-invalid",
  cancelled: "model-cancelled", "budget-exceeded": "budget-exceeded",
};

const words = (code, detail) => {
  const name = code.replaceAll("-", " ");
  if (detail === null || detail === undefined) return name;
  if (code === "too-large" && typeof detail === "number") return `too large: at most ${detail} bytes`;
  if (code === "rate-limited") return `rate limited: try again in ${detail} ms`;
  if (Array.isArray(detail)) return `${name}: ${detail.join(", ")}`;
  if (typeof detail === "object") return `${name}: ${detail.status ? `status ${detail.status}: ` : ""}${detail.message}`;
  return `${name}: ${detail}`;
};

/** The value of a result, or its error as an exception. */
export const unwrap = (result, what, Type = HostError) => {
  if ("Ok" in result) return result.Ok;
  throw new Type(what, ...variant(result.Err));
};
