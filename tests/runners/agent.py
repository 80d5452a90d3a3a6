"""Fails in each way that its message names. agent.js is the same agent."""
import asyncio
import builtins
import json
import os
import random
import sys

from bulkhead import AgentError, agent, tool
from lib.twice import twice


def thrower(what):
    if what == "type":
        return len(None)
    if what == "range":
        raise IndexError("too far")
    if what == "text":
        raise Exception("a text")
    if what == "cause":
        try:
            return len(None)
        except TypeError as cause:
            raise IndexError("on top") from cause
    if what == "own":
        raise AgentError("bad-prompt", "not like that")
    if what == "fatal":
        raise AgentError("gave-up", "no more", fatal=True)


def recurse(n):
    return recurse(n + 1) + 1


async def fail():
    raise TypeError("nobody handles me")


async def announce(ctx):
    await asyncio.sleep(0.02)
    ctx.emit("runner.done", {})


@tool
def status(ctx, text: str):
    """Say how it goes."""
    return thrower("type") if text == "badly" else f"noted {text}"


# Whatever one agent changes in what all share: the interpreter, its library, modules, its own code.
SHARED = [builtins, sys, json, AgentError, thrower]


@agent(tools=[status], state={"count": 0})
async def broken(ctx, message):
    ctx.state["count"] += 1
    match message.text:
        case "count":
            return str(ctx.state["count"])
        case "twice":
            return twice("x")
        case "random":
            return str(random.random())
        case "half":
            half = json.loads('"a\\ud83d"')
            print(half)
            ctx.emit("runner.half", {"half": half})
            return half
        case "unkept":
            ctx.state["self"] = ctx.state
            return "unkept"
        case "emit":
            ctx.emit("runner.tested", {"text": message.text})
            return "emitted"
        case "reject":
            asyncio.ensure_future(fail())
            await asyncio.sleep(0)
            return None
        case "timer":
            asyncio.get_running_loop().call_later(0.001, lambda: len(None))
            await asyncio.sleep(0.02)
            return "later"
        case "long":
            raise IndexError("x" * 2_000_000)
        case "much":
            return "ä" * 1_000_000
        case "left":
            asyncio.ensure_future(asyncio.sleep(60))
            return "left"
        case "background":
            ctx.wait_until(announce(ctx))
            return "soon"
        case "callback":
            return ctx.chat.ask("status badly")
        case "exit":
            sys.exit(3)
        case "os-exit":
            os._exit(3)
        case "shared":
            return str(sys.getrefcount(json.loads) >= 1 << 30 > sys.getrefcount(broken))
        case "stain":
            for each in SHARED:
                each.stain = True
            return "stained"
        case "stains":
            return str(sum(hasattr(each, "stain") for each in SHARED))
        case "recursion":
            return recurse(0)
        case "memory":
            every = []
            while True:
                every.append([len(every)] * 10_000)
        case "loop":
            while True:
                pass
        case "wrong":
            return 7j
        case "refused":
            return ctx.emit("agent.mine", {})
        case "caught":
            try:
                return ctx.send("nobody-there", "hi")
            except Exception as error:
                return error.code
        case "never":
            await asyncio.get_running_loop().create_future()
        case text if text.startswith("ask "):
            return ctx.chat.ask(text[4:])
    return thrower(message.text) or "fine"
