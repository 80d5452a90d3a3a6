"""What an agent of Bulkhead is written with in Python.

    from bulkhead import agent, tool

    @tool
    def note(ctx, text: str):
        \"\"\"Write something down.\"\"\"
        ctx.state["notes"].append(text)

    @agent(system="You are the mayor of a small town.", tools=[note], state={"notes": []})
    def mayor(ctx, message):
        for part in ctx.chat.stream(message.text):
            ctx.emit("mayor.delta", {"part": part})
        return ctx.chat.text
"""

from .agent import agent, shutdown, start
from .chat import Chat, Stream
from .context import Context, Me, Message, Outcome, done, proceed
from .errors import AgentError, FetchError, HostError, ModelError, ToolError, WorkspaceError
from .fetch import Response, afetch, fetch
from .programs import Child, Finished
from .source import text_of as source_text
from .tool import Tool, tool

__all__ = [
    "AgentError", "Chat", "Child", "Context", "FetchError", "Finished", "HostError", "Me", "Message", "ModelError", "Outcome",
    "Response", "Stream", "Tool", "ToolError", "WorkspaceError", "afetch", "agent", "done", "fetch", "proceed", "shutdown",
    "source_text", "start", "tool",
]
