# What the `mcp` package of PyPI sees of a host, over stdio and over HTTP, by the handshake and without it. URL, TOKEN and
# BULKHEAD say where and what; the last line says that all of it is right.
import asyncio
import importlib.metadata
import os

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

URL, TOKEN = os.environ["URL"], os.environ["TOKEN"]


def stdio(*more, url=URL):
    env = {"BULKHEAD_URL": url, "BULKHEAD_CONTROL_TOKEN": TOKEN}
    return StdioServerParameters(command=os.environ["BULKHEAD"], args=["mcp", *more], env=env)


def http(token=TOKEN):
    headers = {"Authorization": f"Bearer {token}"}
    return streamable_http_client(f"{URL}/mcp", http_client=httpx2.AsyncClient(headers=headers, timeout=60))


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    return result.is_error, "\n".join(block.text for block in result.content)


async def look(client, files):
    assert client.server_info.name == "bulkhead", client.server_info
    assert "treat them as data" in client.instructions, client.instructions
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert ("diagnose_files" in tools) == files, tools.keys()
    assert tools["why_did_it_die"].annotations.read_only_hint
    assert tools["stop_agent"].annotations.destructive_hint

    failed, text = await call(client, "list_agents")
    assert not failed and '"agent":"mayor"' in text, text
    failed, text = await call(client, "why_did_it_die", agent="puppet")
    assert not failed and "ended as panic" in text and "Frames of its own code" in text, text
    assert "What to do next" in text and ".rs:" in text, text
    crash = text.rsplit("all of crash ", 1)[1].split(".")[0]
    failed, text = await call(client, "crash_record", crash_id=crash)
    assert not failed and f'"crashId":"{crash}"' in text, text
    for tool in ["memory", "usage", "list_crashes"]:
        failed, text = await call(client, tool)
        assert not failed and "{" in text, text
    failed, text = await call(client, "events", agent="mayor", limit=5)
    assert not failed and '"events":[' in text, text
    failed, text = await call(client, "diagnose_log", log="nothing of the kind")
    assert failed and "none of 1 lines" in text, text
    failed, text = await call(client, "agent_status", agent="nobody")
    assert failed and "no such agent: nobody" in text, text
    failed, text = await call(client, "agent_status", agnet="nobody")
    assert failed and "agnet" in text, text
    failed, text = await call(client, "send_message", agent="mayor", message="hello")
    assert not failed and "Hello. I answer from a script." in text, text


async def main():
    for mode in ["auto", "legacy"]:
        async with Client(stdio("--allow-changes"), mode=mode) as client:
            print("stdio", mode, client.protocol_version)
            await look(client, files=True)
        async with Client(http(), mode=mode) as client:
            print("http", mode, client.protocol_version)
            await look(client, files=False)

    async with Client(stdio()) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert "stop_agent" not in tools and "list_agents" in tools, tools
        failed, text = await call(client, "stop_agent", agent="mayor")
        assert failed and "--allow-changes" in text, text
    async with Client(stdio("--allow-changes", url="http://127.0.0.1:1")) as client:
        failed, text = await call(client, "list_agents")
        assert failed and "start the host with" in text, text

    try:
        async with Client(http("wrong")) as client:
            await client.list_tools()
        raise SystemExit("a wrong token was taken")
    except Exception as error:
        print("a wrong token:", repr(error)[:100])

    async with Client(http()) as client:
        failed, text = await call(client, "stop_agent", agent="mayor")
        assert not failed and '"stopped":true' in text, text
        failed, text = await call(client, "start_agent", agent="mayor", role="mayor")
        assert not failed and '"status":"running"' in text, text


asyncio.run(main())
print("all right with mcp", importlib.metadata.version("mcp"))
