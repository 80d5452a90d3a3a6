"""Asks the server whose address its message has, in each way that its messages name."""

import asyncio
import json
import time

from bulkhead import FetchError, afetch, agent, fetch

#: What a turn leaves for another one.
kept = {}


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except FetchError as error:
        return f"{error.code} {isinstance(error, OSError)} {error}"
    except Exception as error:
        return type(error).__name__


async def arefused(waiting):
    try:
        await waiting
    except FetchError as error:
        return f"{error.code} {error}"


def echo(base, _, ctx):
    response = fetch(f"{base}/echo", params={"q": "ü +&"}, headers={"X-Own": "1"}, json={"a": "ü"})
    return [response.status_code, response.ok, response.url == f"{base}/echo?q=%C3%BC+%2B%26", response.headers.get_all("Set-Cookie"), response.json()]


async def redirects(base, elsewhere, ctx):
    options = {"data": "x", "headers": {"authorization": "Bearer x"}}
    seen = []
    for path in ("/to/301", "/to/303", "/to/307"):
        answer = (await afetch(base + path, **options)).json()
        seen.append([answer["method"], answer["body"], answer["authorization"]])
    away = (await afetch(f"{base}/away?{elsewhere}", **options)).json()
    manual = await afetch(f"{base}/to/302", follow_redirects=False)
    ring = await arefused(afetch(f"{base}/ring"))
    return [seen, away["authorization"], manual.status_code, manual.headers["location"], ring.endswith("more than 20 redirects")]


async def together(base, _, ctx):
    # The server answers none of them before all are there.
    return "".join(response.text for response in await asyncio.gather(*(afetch(f"{base}/all-four") for _ in range(4))))


async def parts(base, _, ctx):
    blocking = [part.decode() for part in fetch(f"{base}/parts", stream=True)]
    return [blocking, [part.decode() async for part in await afetch(f"{base}/parts", stream=True)]]


async def late(base, _, ctx):
    began = time.monotonic()
    found = [
        refused(fetch, f"{base}/never", timeout=0.05),
        await arefused(afetch(f"{base}/never", timeout=0.05)),
        refused(fetch, f"{base}/never-ends", timeout=0.3),
        await arefused(afetch(f"{base}/never-ends", timeout=0.3)),
    ]
    try:
        async with asyncio.timeout(0.05):
            await afetch(f"{base}/never")
    except TimeoutError:
        found.append("TimeoutError")
    return [*found, time.monotonic() - began < 20]


def denied(base, _, ctx):
    return [refused(fetch, url) for url in ("http://127.0.0.1:1/", "https://example.com/?secret")]


def uncaught(base, _, ctx):
    fetch("https://example.com/?secret")


async def left(base, _, ctx):
    kept["task"] = asyncio.create_task(afetch(f"{base}/never"))
    await asyncio.sleep(0)


def waited(base, _, ctx):
    async def later():
        ctx.emit("fetch.done", {"status": (await afetch(f"{base}/echo")).status_code})

    ctx.wait_until(later())


def wrong(base, _, ctx):
    tries = [
        ((None,), {}), (("nonsense",), {}), (("ftp://a/",), {}), ((f"{base}/echo",), {"headers": {"a b": "x"}}),
        ((f"{base}/echo",), {"headers": {"a": "x\ny"}}), (("http://u:p@127.0.0.1/",), {}), ((f"{base}/echo",), {"headers": {"a": "€"}}),
        ((f"{base}/echo",), {"data": "x", "json": 1}), ((f"{base}/echo",), {"headers": {"connection": "close"}}), (("http://[x/",), {}),
        ((f"{base}/echo", "a b"), {}), ((f"{base}/echo",), {"headers": {"x": "x" * 60_000}}), ((f"{base}/echo",), {"headers": {"a": None}}),
    ]
    return [(refused(fetch, *arguments, **options) or "fine").split()[0] for arguments, options in tries]


def broken(base, _, ctx):
    return refused(fetch, f"{base}/cut")


def once(base, _, ctx):
    response = fetch(f"{base}/gone")
    return [response.status_code, response.ok, response.text, response.content.decode(), refused(response.raise_for_status)]


def large(base, _, ctx):
    sent = "ü" * 500_000
    assert fetch(f"{base}/echo", data=sent).json()["body"] == sent
    return refused(fetch, f"{base}/echo", data=sent, max_bytes=1000)


async def many(base, _, ctx):
    # More than there may be at one time, whether somebody reads them or not.
    done = await asyncio.gather(*(afetch(f"{base}/echo") for _ in range(60)))
    unread = [fetch(f"{base}/never-ends", stream=True).status_code for _ in range(40)]
    return sum(response.status_code for response in done) + sum(unread)


async def room(base, _, ctx):
    """Those that wait get the room of one that is cancelled, and of one that is closed."""
    held = [await afetch(f"{base}/never-ends", stream=True) for _ in range(14)]
    never = [asyncio.create_task(afetch(f"{base}/never")) for _ in range(2)]
    waiting = [asyncio.create_task(afetch(f"{base}/echo")) for _ in range(6)]
    # Each goes as far as it can.
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()
    never[0].cancel()
    await asyncio.gather(*waiting[1:])
    held[0].close()
    never[1].cancel()
    return (await afetch(f"{base}/echo")).status_code


async def cancelled(base, _, ctx):
    """What a reader that is cancelled leaves is read on, and closed, in any order."""
    seen = []
    response = await afetch(f"{base}/parts", stream=True)
    while True:
        try:
            async with asyncio.timeout(0.01):
                async for part in response:
                    seen.append(part.decode())
                break
        except TimeoutError as error:
            kept.setdefault("errors", []).append(error)
    response = await afetch(f"{base}/never-ends", stream=True)
    await anext(aiter(response))
    readers = [asyncio.create_task(anext(aiter(response))) for _ in range(3)]
    two = [str(error).rpartition(": ")[2] for error in await asyncio.gather(*readers[1:], return_exceptions=True)]
    readers[0].cancel()
    await asyncio.wait(readers)
    reader = asyncio.create_task(arefused(collected(response)))
    await asyncio.sleep(0)
    response.close()
    return ["".join(seen), two, (await reader).rpartition(": ")[2]]


async def collected(response):
    return [part async for part in response]


async def mixed(base, _, ctx):
    """A response is read in both ways, whoever asked for it."""
    one = [part.decode() for part in await afetch(f"{base}/parts", stream=True)]
    other = [part.decode() async for part in fetch(f"{base}/parts", stream=True)]
    # Of which nobody can read the rest, and which only the collector of garbage finds.
    for _ in range(40):
        response = await afetch(f"{base}/never-ends", stream=True)
        response.itself = response
    # Each redirect has what those before it left of the time.
    slow = (await arefused(afetch(f"{base}/slow/5", timeout=0.3))).split()
    return ["".join(one), "".join(other), slow[0], slow[-1] == "ms" and int(slow[-2]) <= 300]


def keeps(base, _, ctx):
    kept["response"] = fetch(f"{base}/never-ends", stream=True)
    return "kept"


def finds(base, _, ctx):
    return [refused(list, kept["response"]), fetch(f"{base}/echo?second").json()["query"]]


def odd(base, _, ctx):
    empty = fetch(f"{base}/to/204")
    latin = fetch(f"{base}/echo", headers={"x-own": "\xe9"}).json()
    form = fetch(f"{base}/echo", data={"a": ["1", "ü"]}).json()
    return [
        fetch(f"{base}/to/999").status_code, refused(fetch, f"{base}/away?[bad"), empty.content.decode(),
        fetch(f"{base}/echo", "PUT").json()["length"], latin["ownBytes"], form["body"], form["type"],
        fetch(f"{base}/echo#part?x").json()["query"],
    ]


WAYS = [echo, redirects, together, parts, late, denied, uncaught, left, waited, wrong, broken, once, large, many, room, cancelled, mixed, keeps, finds, odd]


@agent
async def ask(ctx, message):
    way, base, elsewhere = message.text.split(" ")
    answer = next(function for function in WAYS if function.__name__ == way)(base, elsewhere, ctx)
    return json.dumps(await answer if asyncio.iscoroutine(answer) else answer)
