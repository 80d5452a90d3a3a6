// The interface `host`.
import { call, camel, toJson } from "bulkhead:native";
import { unwrap } from "bulkhead:errors";
import { text } from "bulkhead:thrown";

/** At most this many fields of a log line are taken. */
const MAX_FIELDS = 32;
/** Characters of a line, of a field's name and of its value. The host cuts below these; far more would end the agent. */
const [MAX_LINE, MAX_NAME, MAX_VALUE] = [16 * 1024, 256, 2 * 1024];

const level = (name) => (message, fields = {}) => {
  const field = ([key, value]) => [key.slice(0, MAX_NAME), text(value).slice(0, MAX_VALUE)];
  call("log", name, text(message).slice(0, MAX_LINE), Object.entries(fields).slice(0, MAX_FIELDS).map(field));
};

export const log = {
  trace: level("Trace"), debug: level("Debug"), info: level("Info"), warn: level("Warn"), error: level("Error"),
};

export const emit = (name, data) => void unwrap(call("emit", { name, data: toJson(data ?? null) }), `emit "${name}"`);

export const send = (agentId, body) => unwrap(call("send", agentId, typeof body === "string" ? body : toJson(body)), `send to "${agentId}"`);

export const config = (key, fallback) => call("config", key) ?? fallback;

export const settings = () => camel(call("settings"));

export const memory = () => camel(call("memory"));

export const deadline = () => call("deadline");

export const nudges = () => call("nudges");

export const setActiveTools = (names) => void call("setActiveTools", names);
