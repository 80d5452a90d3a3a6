"""The conversation with a model, and tools."""

import json
import unittest
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal, Optional

from componentize_py_types import Err
from wit_world.imports import host, model

from bulkhead import Tool, schema
from bulkhead.chat import History

from .stage import Stage, calls, says

AGENT = """
from bulkhead import *
@tool
def add(ctx, a: int, b: int = 1):
    "Add."
    ctx.state["sum"] = a + b
    return ctx.state["sum"]
@tool
async def fail(how: str):
    raise {"bug": KeyError("x"), "known": AgentError("no", "not now"), "end": AgentError("no", "never", fatal=True)}[how]
@agent(system="be kind", tools=[add, fail], state={"sum": 0}, max_rounds=2)
"""
PLAIN = AGENT + "def mayor(ctx, message):\n    return '|'.join(ctx.chat.stream(message.text))\n"


def texts(request: model.Request) -> list[tuple[str, str]]:
    return [(message.role.name, "".join(part.value for part in message.content)) for message in request.messages]


class Conversation(Stage):
    def test_an_answer_streams_and_is_remembered(self) -> None:
        self.answers = [[model.Part_Text("he"), model.Part_Reasoning("hm"), *says("llo")], says("again")]
        self.assertEqual(self.play(PLAIN), "he|llo")
        self.assertEqual(self.send("more").reply, "again")
        self.assertEqual(texts(self.requests[1]), [("SYSTEM", "be kind"), ("USER", "hi"), ("ASSISTANT", "hello"), ("USER", "more")])
        self.assertEqual(self.open_answers, 0)

    def test_tools_run_and_their_results_go_back(self) -> None:
        self.answers = [calls("add", '{"a": 2}'), says("three")]
        self.assertEqual(self.play(PLAIN), "three")
        result = self.requests[1].messages[-1]
        self.assertEqual((result.role, result.content[0].value, result.tool_call_id), (model.Role.TOOL, "3", "c1"))
        self.assertEqual(self.tools, [["add"], []])

    def test_what_the_server_wants_back_goes_back_and_is_remembered(self) -> None:
        self.answers = [calls("add", '{"a": 2}'), says("three"), says("again")]
        self.play(PLAIN)
        self.send("more")
        for request in self.requests[1:]:
            said = [message.reasoning_state for message in request.messages if message.role == model.Role.ASSISTANT]
            self.assertEqual(said[0], '{"of": "the call"}')
            self.assertEqual(set(said[1:]), {None} if said[1:] else set())

    def test_what_a_model_does_wrong_is_an_answer_to_it(self) -> None:
        for name, arguments, part in [("add", '{"a": "x"}', "wanted integer"), ("add", "{", "no JSON"), ("add", "{}", "wants a"),
                                      ("nix", "", "no tool `nix`"), ("add", '{"a": 1, "c": 2}', "takes no c"), ("fail", '{"how": "known"}', "not now")]:
            with self.subTest(part):
                self._forget()
                self.answers = [calls(name, arguments), says("ok")]
                self.assertEqual(self.play(PLAIN), "ok")
                self.assertIn(part, self.requests[-1].messages[-1].content[0].value)

    def test_a_defect_of_a_tool_leaves(self) -> None:
        self.answers = [calls("fail", '{"how": "bug"}')]
        self.start(PLAIN)
        self.assertEqual(self.refused(self.send).exceptions[0].kind, "KeyError")

    def test_a_fatal_error_of_a_tool_leaves(self) -> None:
        self.answers = [calls("fail", '{"how": "end"}')]
        self.start(PLAIN)
        self.assertTrue(self.refused(self.send).fatal)

    def test_too_many_rounds_fail_the_turn_and_are_forgotten(self) -> None:
        self.answers = [calls("add", '{"a": 2}')] * 3
        self.start(PLAIN)
        error = self.refused(self.send)
        self.assertEqual((error.code, error.fatal), ("too-many-tool-rounds", False))
        self.answers = [says("ok")]
        self.send("x")
        self.assertEqual(len(self.requests[-1].messages), 2)

    def test_the_tools_of_the_answer_too_many_are_not_run(self) -> None:
        self.answers = [calls("add", '{"a": 2}')] * 3
        self.start(PLAIN)
        self.refused(self.send)
        self.assertEqual(self.tools, [["add"], []] * 2)

    def test_of_a_long_result_the_beginning_is_remembered(self) -> None:
        history = History([], max_bytes=8000)
        history.commit([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        history.commit([{"role": "user", "content": "c"}, {"role": "tool", "content": "ü" * 3000}, {"role": "assistant", "content": "d"}])
        self.assertEqual(history[3]["content"], "ü" * 1000 + "\n[2000 characters left out]")
        self.assertEqual([message["content"] for message in history if message["role"] == "user"], ["a", "c"])
        history.commit([{"role": "user", "content": "e"}, {"role": "assistant", "content": "x" * 9000}])
        self.assertEqual(len(history), 5)

    def test_a_failure_of_the_model_fails_the_turn(self) -> None:
        self.answers = [[model.Part_Text("he"), Err(model.ModelError_RateLimited(1500))]]
        self.start(PLAIN)
        error = self.refused(self.send)
        self.assertEqual((error.code, error.fatal, error.exceptions), ("model-unavailable", False, []))
        self.assertEqual(self.open_answers, 0)

    def test_a_request_that_no_call_can_copy_is_refused(self) -> None:
        self.start(AGENT + "def mayor(ctx, message):\n    return ctx.chat.ask('x' * 5_000_000, images=[('image/png', b'x' * 1_000_000)])\n")
        error = self.refused(self.send)
        self.assertEqual((error.code, error.fatal), ("model-invalid", False))
        self.assertIn("too large: the request has 6", error.message)
        self.assertEqual(self.requests, [])

    def test_an_asynchronous_agent_may_ask(self) -> None:
        asks = AGENT + "async def mayor(ctx, message):\n    return await ctx.chat.ask('a') + ctx.chat.ask('b')\n"
        self.answers = [calls("add", '{"a": 2}'), says("three"), says("four")]
        self.assertEqual(self.play(asks), "threefour")
        self.answers = [calls("fail", '{"how": "known"}')]
        [exception] = self.refused(self.send).exceptions
        self.assertEqual(exception.kind, "TypeError")
        self.assertIn("use `await ctx.chat.stream(...)`", exception.message)
        self.assertEqual(self.unhandled, [])

    def test_leaving_an_answer_closes_it(self) -> None:
        self.answers = [says("long")]
        self.assertEqual(self.play(AGENT + "def mayor(ctx, message):\n    for part in ctx.chat.stream('x'):\n        return part\n"), "long")
        self.assertEqual(self.open_answers, 0)

    def test_a_truncated_answer_says_so(self) -> None:
        for reason, cause in [
            (model.FinishReason.LENGTH, "the model reached its length limit"),
            (model.FinishReason.OTHER, "the model did not come to its end"),
        ]:
            self.answers = [[model.Part_Text("he"), model.Part_End(model.End(reason, None, None))]]
            reply = self.play(AGENT + "def mayor(ctx, message):\n    return ctx.chat.ask('x')\n")
            self.assertEqual(reply, f"he\n\n[cut off: {cause}]")

    def test_asynchronous_agents_iterate_and_await(self) -> None:
        self.answers = [calls("add", '{"a": 2}'), says("one"), says("two")]
        body = "async def mayor(ctx, message):\n    parts = [part async for part in ctx.chat.stream('x')]\n    return ''.join(parts) + await ctx.chat.stream('y')\n"
        self.assertEqual(self.play(AGENT + body), "onetwo")

    def test_settings_of_people_come_first(self) -> None:
        host.settings = lambda: host.AgentSettings(1, None, None, "be brief", "two agents")
        self.answers = [says("ok")]
        self.play(PLAIN)
        self.assertEqual(texts(self.requests[0])[0], ("SYSTEM", "be brief\n\nThe dashboard of the town shows:\ntwo agents"))

    def test_options_become_a_request(self) -> None:
        self.answers = [says("ok")]
        self.play(AGENT + """def mayor(ctx, message):
    ctx.chat.ask('x', system='s', tools=[], tool_choice='add', temperature=0.5, max_tokens=7, timeout=1.5, extra={'seed': 1},
                 response_format={'type': 'object'}, images=[('image/png', b'1'), 'https://example.com/a.png'], remember=False)
""")
        [request] = self.requests
        self.assertEqual((request.tools, request.tool_choice, request.timeout_ms), ([], model.ToolChoice_Named("add"), 1500))
        self.assertEqual((request.extra, request.response_format), ('{"seed": 1}', model.ResponseFormat_JsonSchema('{"type": "object"}')))
        self.assertEqual(request.messages[1].content[1:], [model.Content_Image(model.ImageData("image/png", b"1")),
                                                          model.Content_ImageUrl("https://example.com/a.png")])


class Remembering(unittest.TestCase):
    def test_the_oldest_exchange_goes_whole(self) -> None:
        history = History(max_messages=4)
        for name in "abc":
            history.commit([{"role": "user", "content": name}, {"role": "assistant", "content": "ok"}])
        self.assertEqual([message["content"] for message in history if message["role"] == "user"], ["b", "c"])

    def test_bytes_count_too(self) -> None:
        history = History(max_bytes=100)
        history.commit([{"role": "user", "content": "x" * 200}, {"role": "assistant", "content": "ok"}])
        self.assertEqual(history, [])


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.0


class Schemas(unittest.TestCase):
    def test_annotations_become_schemas_and_values(self) -> None:
        for annotation, wanted, value, read in [
            (str, {"type": "string"}, "a", "a"),
            (float, {"type": "number"}, 1, 1.0),
            (list[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
            (set[str], {"type": "array", "items": {"type": "string"}}, ["a"], {"a"}),
            (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}, {"a": True}, {"a": True}),
            (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
            (Literal["a", "b"], {"enum": ["a", "b"]}, "b", "b"),
            (Color, {"enum": ["red"]}, "red", Color.RED),
            (Annotated[str, "what"], {"type": "string", "description": "what"}, "a", "a"),
        ]:
            with self.subTest(annotation):
                self.assertEqual(schema.of(annotation), wanted)
                self.assertEqual(schema.read(annotation, value, "v"), read)

    def test_dataclasses_are_objects(self) -> None:
        self.assertEqual(schema.of(Point)["required"], ["x"])
        self.assertEqual(schema.read(Point, {"x": 1}, "p"), Point(1, 0.0))

    def test_wrong_values_are_refused(self) -> None:
        for annotation, value in [(int, True), (int, "1"), (str, None), (list[int], ["a"]), (Literal["a"], "b"), (Color, "blue"),
                                  (Point, {"y": 1}), (Optional[int], "x"), (Point, {"x": 1, "z": 1})]:
            with self.subTest(annotation), self.assertRaises(schema.Mismatch):
                schema.read(annotation, value, "v")

    def test_a_docstring_describes_a_tool_and_its_parameters(self) -> None:
        def look(ctx, path: str, deep: bool = False) -> str:
            """Look around.

            Args:
                path: Where to look,
                    relative to the workspace.
                deep (bool): Into folders too.

            Returns:
                What is there.
            """
            return path

        offer = Tool(look).offer()
        self.assertEqual((offer.name, offer.description), ("look", "Look around."))
        parameters = json.loads(offer.parameters)
        self.assertEqual(parameters["properties"]["path"], {"type": "string", "description": "Where to look, relative to the workspace."})
        self.assertEqual(parameters["properties"]["deep"], {"type": "boolean", "description": "Into folders too."})
        self.assertEqual(parameters["required"], ["path"])
