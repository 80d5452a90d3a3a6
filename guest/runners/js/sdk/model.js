// The interface `model`.
import { call, camel, kebab, pascal, toJson, variant } from "bulkhead:native";
import { ModelError } from "bulkhead:errors";

/** A message in the form that model servers take, as the record of the interface. */
const message = ({ role, content, tool_calls, tool_call_id, reasoning_state }) => ({
  role: pascal(role),
  content: contents(content),
  tool_calls: (tool_calls ?? []).map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: text })),
  tool_call_id: tool_call_id ?? null,
  reasoning_state: reasoning_state ?? null,
});

const contents = (content) => {
  if (content === undefined || content === null || content === "") return [];
  if (typeof content === "string") return [{ Text: content }];
  return content.map((part) => (part.type === "text" ? { Text: part.text } : image(part.image_url.url)));
};

const image = (url) => {
  const [, media_type, data] = /^data:([^;,]+);base64,(.*)$/s.exec(url) ?? [];
  if (!data) return { ImageUrl: url };
  return { Image: { media_type, data: Array.from(atob(data), (byte) => byte.charCodeAt(0)) } };
};

const toolChoice = (choice) => (choice === undefined ? null : typeof choice === "string" ? pascal(choice) : { Named: choice.name });

const responseFormat = (format) =>
  format === undefined ? null : typeof format === "string" ? pascal(format) : { JsonSchema: toJson(format.schema ?? format) };

const request = (asked) => ({
  endpoint: asked.endpoint ?? null,
  model: asked.model ?? null,
  messages: asked.messages.map(message),
  tools: (asked.tools ?? []).map(({ name, description, parameters }) => ({ name, description, parameters: toJson(parameters) })),
  tool_choice: toolChoice(asked.toolChoice),
  response_format: responseFormat(asked.responseFormat),
  temperature: asked.temperature ?? null,
  max_tokens: asked.maxTokens ?? null,
  timeout_ms: asked.timeoutMs ?? null,
  extra: asked.extra === undefined ? null : toJson(asked.extra),
});

const unwrap = (result) => {
  if ("Ok" in result) return result.Ok;
  throw new ModelError(...variant(result.Err));
};

const end = ({ finish_reason, usage, reasoning_state }) => ({
  finishReason: kebab(finish_reason),
  usage: camel(usage),
  reasoningState: reasoning_state ?? undefined,
});

const toolCall = ({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } });

const part = (raw) => {
  const [type, held] = variant(raw);
  if (type === "end") return { type, ...end(held) };
  return type === "tool-call" ? { type, call: toolCall(held) } : { type, text: held };
};

/** Closes answers whose generator nobody holds any more: an agent may have four under way. */
const abandoned = new FinalizationRegistry((id) => call("chatClose", id));

async function* parts(id) {
  try {
    for (;;) {
      const next = part(unwrap(call("chatNext", id)));
      yield next;
      if (next.type === "end") return;
    }
  } finally {
    call("chatClose", id);
  }
}

export const model = {
  stream(asked) {
    const id = unwrap(call("chatOpen", request(asked)));
    const stream = parts(id);
    abandoned.register(stream, id);
    return stream;
  },

  async complete(asked) {
    const answer = unwrap(call("complete", request(asked)));
    return { text: answer.text, reasoning: answer.reasoning, toolCalls: answer.tool_calls.map(toolCall), ...end(answer.end) };
  },
};
