"""An agent that asks a language model, and writes down what it is told by `note TEXT`."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import model
from wit_world.imports.agent_types import AgentError, Next, Outcome
from wit_world.imports.model import ChatMessage, Content_Text, ModelError_Denied, Request, Role

SYSTEM = "You are {{name}}. Answer briefly."

# Its state, which outlives it.
state = {"turns": 0, "notes": []}


def says(role, text):
    return ChatMessage(role, [Content_Text(text)], [], None, None)


def ask(text):
    """The answer of the model."""
    conversation = [says(Role.SYSTEM, SYSTEM), says(Role.USER, text)]
    try:
        return model.complete(Request(None, None, conversation, [], None, None, None, None, None, None)).text
    except Err as refused:
        if isinstance(refused.value, ModelError_Denied):  # See `models` in bulkhead.toml.
            return f"{state['turns']}: {text}"
        raise Err(AgentError("no-answer", f"the model did not answer: {refused.value}", False, [])) from None


def answer(text):
    if text == "notes":
        return "\n".join(state["notes"]) or "no notes yet"
    if text.startswith("note "):
        state["notes"].append(text.removeprefix("note "))
        return "noted"
    return ask(text)


class Lifecycle(exports.Lifecycle):
    def start(self, request):
        pass

    def handle(self, message):
        state["turns"] += 1
        return Outcome(answer(message.body), Next.IDLE)

    def snapshot(self):
        return json.dumps(state).encode()

    def restore(self, snapshot):
        state.update(json.loads(snapshot))

    def shutdown(self, reason):
        pass
