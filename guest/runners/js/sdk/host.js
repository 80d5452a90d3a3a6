// The interface `host`.
import { call, camel, toJson } from "bulkhead:native";
import { unwrap } from "bulkhead:errors";

/** At most this many fields of a log line are taken. */
const MAX_FIELDS = 32;

const text = (value) => (typeof value === "string" ? value : value instanceof Error ? String(value) : toJson(value));

const level = (name) => (message, fields = {}) => {
  call("log", name, String(message), Object.entries(fields).slice(0, MAX_FIELDS).map(([key, value]) => [key, text(value)]));
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
