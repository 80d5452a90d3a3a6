"""The conversation with a language model, which the host asks."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wit_world.imports import host, model

from . import bounds, loop
from .errors import AgentError, calling, kebab, model_error
from .tool import Tool, failure_text, result_text
from .unicode import utf8

if TYPE_CHECKING:
    from .context import Context

#: One message, in the form of OpenAI's chat completions.
Message = dict[str, Any]

#: Of a tool's result so much of the history is remembered.
_RESULT_PART = 8

_TRUNCATED = {
    "length": "the model reached its length limit",
    "content-filter": "a content filter stopped the model",
    "other": "the model did not come to its end",
}


@dataclass
class Options:
    """How to ask. What is not set is left to the host: the role's first model, and its server's defaults."""

    #: Standing instructions. None: the settings', or else the agent's.
    system: str | None = None
    #: None: the agent's.
    tools: list[Tool] | None = None
    #: ``auto``, ``none``, ``required``, or the name of a tool.
    tool_choice: str | None = None
    #: One of the role's `models`, by its name in the host's configuration.
    endpoint: str | None = None
    #: The model's name at its endpoint.
    model: str | None = None
    #: ``json``, or a JSON Schema.
    response_format: str | dict[str, Any] | None = None
    temperature: float | None = None
    #: Of one answer.
    max_tokens: int | None = None
    #: For one answer with all tries of the host, in seconds.
    timeout: float | None = None
    #: Fields that are added to the request's JSON.
    extra: dict[str, Any] | None = None
    #: Addresses of images, or pairs of media type and bytes.
    images: list[str | tuple[str, bytes]] = field(default_factory=list)
    #: False: a question of its own, that neither sees the conversation nor becomes a part of it.
    remember: bool = True


class Chat:
    """Asks the model. The conversation is the agent's history, and is kept in its snapshot."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        #: The last answer.
        self.text = ""

    def stream(self, text: str, **options: Any) -> Stream:
        """An answer under way: iterate over it for its text, piece by piece. Options: see `Options`.

        Tools that the model calls are run in between. When the iteration ends early, or fails, the history is as before.
        """
        return Stream(self._ctx, self, text, Options(**options))

    def ask(self, text: str, **options: Any) -> str:
        """The whole answer. In an asynchronous agent other tasks wait for it, and its tools may not be asynchronous: use
        ``await ctx.chat.stream(text)`` there.
        """
        for _ in (answer := self.stream(text, **options)):
            pass
        return _Whole(answer.text) if loop.is_running() else answer.text


class _Whole(str):
    """An answer that is there. To await it is no mistake."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from ()
        return str(self)


class Stream:
    """An answer under way: ``for part in stream``, ``async for part in stream``, or ``await stream`` for the whole text."""

    def __init__(self, ctx: Context, chat: Chat, text: str, options: Options) -> None:
        self._ctx = ctx
        self._chat = chat
        self._question = _question(text, options.images)
        self._options = options
        #: The text of the model's last answer so far.
        self.text = ""
        #: What the model thought; no part of the answer.
        self.reasoning = ""
        #: ``stop``, ``length``, ``content-filter``, … once the answer is complete.
        self.finish_reason: str | None = None
        #: Tokens of the last answer, if the server reports them.
        self.usage: model.Usage | None = None
        self._reasoning_state: str | None = None

    def __iter__(self) -> Iterator[str]:
        rounds, result = self._rounds(), None
        try:
            while True:
                step = rounds.send(result)
                result = step.run() if isinstance(step, _Call) else None
                if isinstance(step, str):
                    yield step
        except StopIteration:
            return
        finally:
            rounds.close()

    async def __aiter__(self) -> AsyncIterator[str]:
        rounds, result = self._rounds(), None
        try:
            while True:
                step = rounds.send(result)
                result = await step.run_async() if isinstance(step, _Call) else None
                # Each wait for the model is a call of the host. Between them others have their turn.
                await asyncio.sleep(0)
                if isinstance(step, str):
                    yield step
        except StopIteration:
            return
        finally:
            rounds.close()

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole().__await__()

    async def _whole(self) -> str:
        async for _ in self:
            pass
        return self.text

    def _rounds(self) -> Generator[str | _Call, str | None, None]:
        """Answers until one calls no tool. Yields text, and calls, whose results it wants sent back."""
        history, tools = self._ctx.history, {tool.name: tool for tool in self._tools()}
        before = list(history) if self._options.remember else []
        exchange = [self._question]
        rounds = self._ctx.agent.max_rounds
        for round in range(rounds + 1):
            calls = yield from self._answer([self._system(), *before, *exchange], list(tools.values()))
            exchange.append(_answer_message(self.text, calls, self._reasoning_state))
            if not calls:
                return self._commit(exchange)
            if round == rounds:
                # What they did would stay done, and nobody would hear of it.
                break
            for call in calls:
                text = yield _Call(self._ctx, tools.get(call.name), call)
                exchange.append({"role": "tool", "content": text, "tool_call_id": call.id})
        raise AgentError("too-many-tool-rounds", f"the model called tools in {rounds} answers and would go on")

    def _answer(self, messages: list[Message], tools: list[Tool]) -> Generator[str, Any, list[model.ToolCall]]:
        self.text, self.reasoning, calls = "", "", []
        request = _request([message for message in messages if message], tools, self._options)
        if most := bounds.too_large(size := bounds.request_bytes(request)):
            raise model_error("chat", "invalid", f"too large: the request has {size} bytes, and a call copies at most {most}")
        with calling(model_error, model.chat, request) as answer:
            while True:
                match calling(model_error, answer.next):
                    case model.Part_Text(text):
                        self.text += text
                        yield text
                    case model.Part_Reasoning(text):
                        self.reasoning += text
                    case model.Part_ToolCall(call):
                        calls.append(call)
                    case model.Part_End(end):
                        self.finish_reason, self.usage = kebab(end.finish_reason.name), end.usage
                        self._reasoning_state = end.reasoning_state
                        return calls
                    case unknown:
                        raise TypeError(f"the host sent an unknown part: {unknown!r}")

    def _commit(self, exchange: list[Message]) -> None:
        if cause := _TRUNCATED.get(self.finish_reason):
            self.text += f"\n\n[cut off: {cause}]"
        self._chat.text = self.text
        if self._options.remember:
            self._ctx.history.commit(exchange)

    def _system(self) -> Message | None:
        """What people set comes before what the author wrote."""
        settings = self._ctx.settings
        text = self._options.system or settings.system_prompt or self._ctx.agent.instructions(self._ctx)
        if settings.dashboard_context:
            text = f"{text}\n\nThe dashboard of the town shows:\n{settings.dashboard_context}".strip()
        return {"role": "system", "content": text} if text else None

    def _tools(self) -> list[Tool]:
        return self._ctx.agent.tools if self._options.tools is None else [as_tool(tool) for tool in self._options.tools]


class _Call:
    """A tool call that the model asked for."""

    def __init__(self, ctx: Context, tool: Tool | None, call: model.ToolCall) -> None:
        self._ctx = ctx
        self._tool = tool
        self._call = call

    def run(self) -> str:
        host.set_active_tools([self._call.name])
        try:
            result = self._invoke()
            if loop.is_running() and inspect.iscoroutine(result):
                result.close()
                raise TypeError(f"the tool `{self._call.name}` is asynchronous, as is the code that asks: use `await ctx.chat.stream(...)`")
            return result_text(loop.complete(result))
        except Exception as error:
            return failure_text(self._call.name, error)
        finally:
            host.set_active_tools([])

    async def run_async(self) -> str:
        host.set_active_tools([self._call.name])
        try:
            result = self._invoke()
            return result_text(await result if inspect.isawaitable(result) else result)
        except Exception as error:
            return failure_text(self._call.name, error)
        finally:
            host.set_active_tools([])

    def _invoke(self) -> Any:
        if self._tool is None:
            raise AgentError("no-such-tool", f"there is no tool `{self._call.name}`")
        return self._tool.call(self._ctx, self._call.arguments)


class History(list[Message]):
    """What was said: complete exchanges, oldest first, bounded by count and by bytes."""

    def __init__(self, messages: list[Message] = [], max_messages: int = 200, max_bytes: int = 256 * 1024) -> None:
        super().__init__(messages)
        self.max_messages = max_messages
        self.max_bytes = max_bytes

    def commit(self, exchange: list[Message]) -> None:
        """Adds an exchange that has its answer, and drops the oldest ones that are over the bounds."""
        for message in exchange:
            if message["role"] == "tool":
                message["content"] = _shortened(message["content"], self.max_bytes // _RESULT_PART)
        if len(exchange) > self.max_messages or sum(map(_size, exchange)) > self.max_bytes:
            host.log(host.Level.WARN, f"an exchange of {len(exchange)} messages is not remembered: it is larger than the history", [])
            return
        self.extend(exchange)
        sizes = [_size(message) for message in self]
        while self and (len(self) > self.max_messages or sum(sizes) > self.max_bytes):
            oldest = next((i for i, message in enumerate(self) if i and message["role"] == "user"), len(self))
            del self[:oldest], sizes[:oldest]


def _size(message: Message) -> int:
    return len(utf8(json.dumps(message, ensure_ascii=False)))


def _shortened(text: str, most: int) -> str:
    """The beginning, and how much was left out."""
    return text if len(text) <= most else f"{text[:most]}\n[{len(text) - most} characters left out]"


def as_tool(function: Any) -> Tool:
    """Any function can be a tool."""
    return function if isinstance(function, Tool) else Tool(function)


def _question(text: str, images: list[Any]) -> Message:
    if not isinstance(text, str):
        raise TypeError(f"a question to the model is text, not {type(text).__name__}")
    if not images:
        return {"role": "user", "content": text}
    parts = [{"type": "image_url", "image_url": {"url": image if isinstance(image, str) else _data_url(*image)}} for image in images]
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _answer_message(text: str, calls: list[model.ToolCall], reasoning_state: str | None) -> Message:
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls
        ]
    if reasoning_state:
        message["reasoning_state"] = reasoning_state
    return message


def _request(messages: list[Message], tools: list[Tool], options: Options) -> model.Request:
    return model.Request(
        endpoint=options.endpoint,
        model=options.model,
        messages=[_record(message) for message in messages],
        tools=[tool.offer() for tool in tools],
        tool_choice=_choice(options.tool_choice),
        response_format=_format(options.response_format),
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        timeout_ms=None if options.timeout is None else int(options.timeout * 1000),
        extra=None if options.extra is None else json.dumps(options.extra, ensure_ascii=False),
    )


def _record(message: Message) -> model.ChatMessage:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    calls = [
        model.ToolCall(call["id"], call["function"]["name"], call["function"].get("arguments", ""))
        for call in message.get("tool_calls", ())
    ]
    role = model.Role[message["role"].upper()]
    contents = [_content(part) for part in parts]
    return model.ChatMessage(role, contents, calls, message.get("tool_call_id"), message.get("reasoning_state"))


def _content(part: dict[str, Any]) -> Any:
    if part["type"] == "text":
        return model.Content_Text(part["text"])
    url: str = part["image_url"]["url"]
    head, is_data, data = url.partition(";base64,")
    if is_data and head.startswith("data:"):
        return model.Content_Image(model.ImageData(head.removeprefix("data:"), base64.b64decode(data)))
    return model.Content_ImageUrl(url)


def _choice(choice: str | None) -> Any:
    named: dict[str | None, Callable[[], Any]] = {
        None: lambda: None, "auto": model.ToolChoice_Auto, "none": model.ToolChoice_None_, "required": model.ToolChoice_Required,
    }
    return named[choice]() if choice in named else model.ToolChoice_Named(choice)


def _format(form: str | dict[str, Any] | None) -> Any:
    match form:
        case None:
            return None
        case "json":
            return model.ResponseFormat_Json()
        case dict():
            return model.ResponseFormat_JsonSchema(json.dumps(form, ensure_ascii=False))
    raise ValueError(f"response_format is \"json\" or a JSON Schema, not {form!r}")
