"""Asks a server with the clients of Python's standard library and of packages. A message is `way base encrypted`."""

import asyncio
import gc
import http.client
import json
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import httpx
import requests

from bulkhead import afetch, agent, exchange, fetch

QUERY = {"q": "ü +&"}


def told(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__} {error}"


def urllib_(base, tls):
    with urllib.request.urlopen(f"{base}/echo?x=1") as response:
        seen = [response.status, json.load(response)["query"], response.headers.get_all("set-cookie")]
    posted = urllib.request.Request(f"{base}/to/303", data=b"x", headers={"X-Own": "1"})
    with urllib.request.urlopen(posted) as response:
        seen += [json.load(response)["method"], response.url == f"{base}/echo"]
    try:
        urllib.request.urlopen(f"{base}/gone")
    except urllib.error.HTTPError as error:
        seen += [error.code, error.read().decode()]
    return [*seen, urllib.request.urlopen(f"{tls}/echo").status]


def client(base, tls):
    connection, seen = http.client.HTTPConnection(urlsplit(base).netloc), []
    for body in (None, b"abc", iter([b"a", b"bc"])):
        connection.request("POST", "/echo", body, encode_chunked=True, headers={"Transfer-Encoding": "chunked"} if body and not isinstance(body, bytes) else {})
        answer = json.loads(connection.getresponse().read())
        seen.append([answer["body"], answer["length"]])
    connection.request("HEAD", "/to/204")
    return [*seen, connection.getresponse().status]


def requests_(base, tls):
    with requests.Session() as session:
        first = session.get(f"{base}/echo", params=QUERY, headers={"x-own": "1"})
        away = session.post(f"{base}/to/307", json={"a": 1}, auth=("u", "p")).json()
        upload = session.post(f"{base}/echo", files={"f": ("n.txt", b"inside")}).json()
        parts = b"".join(session.get(f"{base}/parts", stream=True).iter_content(4)).decode()
        echo = first.json()
        return [first.status_code, echo["query"], echo["own"], sorted(session.cookies.keys()), away["method"], away["authorization"],
                "inside" in upload["body"], parts, session.get(f"{tls}/echo").status_code]


def httpx_(base, tls):
    with httpx.Client(follow_redirects=True) as client:
        echo = client.get(f"{base}/echo", params=QUERY, headers={"x-own": "1"}).json()
        with client.stream("GET", f"{base}/parts") as response:
            parts = "".join(response.iter_text())
        away = client.post(f"{base}/to/307", json={"a": 1}).json()
        return [echo["query"], echo["own"], parts, away["body"], client.get(f"{tls}/echo").status_code]


async def beside(base, tls):
    """In an asynchronous agent they block it, also in what would be a thread."""
    return (await asyncio.to_thread(requests.get, f"{base}/echo")).status_code


def fails(base, tls):
    refused = "https://example.com/?secret"
    sock = socket.create_connection(("example.com", 25))
    return [
        told(urllib.request.urlopen, refused), told(requests.get, refused), told(httpx.get, refused),
        told(requests.get, f"{base}/never", timeout=0.05), told(httpx.get, f"{base}/never", timeout=0.05),
        told(requests.get, f"{base}/cut"), told(requests.get, f"{tls}/echo", verify=False), told(sock.sendall, b"HELO me\r\n\r\n"),
    ]


def patience(base, tls):
    """The time to read is not the time to connect or to send. Parts come when they are there."""
    slow = [requests.get(f"{base}/slow/1", timeout=(0.05, 20)).text, httpx.get(f"{base}/slow/1", timeout=httpx.Timeout(0.05, read=20)).text]
    with requests.get(f"{base}/parts", stream=True) as response:
        parts = [part.decode() for part in response.iter_content(None)]
    missing = requests.get(f"{base}/gone")
    return [*slow, len(parts) > 1, "".join(parts), missing.reason]


def loop(base, tls):
    """A loop of `asyncio.run` is as good as the agent's."""
    async def go():
        return [response.status_code for response in await asyncio.gather(*(afetch(f"{base}/echo") for _ in range(3)))]

    return asyncio.run(go())


def not_http(base, tls):
    address = urlsplit(base).netloc.split(":")
    seen = [told(requests.get, f"{base}/echo", proxies={"http": "http://127.0.0.1:1"}), told(requests.get, f"{base}/echo", headers={"host": "other"})]
    sock = socket.create_connection((address[0], int(address[1])))
    seen.append(told(sock.sendall, b"GET /echo HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n"))
    sock = socket.create_connection((address[0], int(address[1])))
    seen.append(told(sock.sendall, b"POST /echo HTTP/1.1\r\ncontent-length: x\r\n\r\n"))
    return [text.split()[0] if text else "fine" for text in seen]


def late(base, tls):
    """A connection that is given up is closed, and not when somebody collects it."""
    gc.disable()
    try:
        seen = {told(requests.get, f"{base}/never", timeout=0.02).split()[0] for _ in range(20)}
        seen |= {told(urllib.request.urlopen, f"{base}/never", timeout=0.02).split()[0] for _ in range(20)}
        for _ in range(20):
            urllib.request.urlopen(f"{base}/never-ends").close()
        return [*sorted(seen), len(exchange._open)]
    finally:
        gc.enable()


KEPT = {}


def keep(base, tls):
    """What waits at the end of a turn says so in the next one."""
    KEPT["socket"] = sock = socket.create_connection(tuple(urlsplit(base).netloc.split(":")), timeout=0.02)
    sock.sendall(b"GET /never HTTP/1.1\r\n\r\n")
    return told(sock.recv, 1)


def find(base, tls):
    return told(KEPT["socket"].recv, 1)


def many(base, tls):
    return sum(requests.get(f"{base}/never-ends", stream=True).status_code + fetch(f"{base}/echo").status_code for _ in range(40))


WAYS = {"urllib": urllib_, "client": client, "requests": requests_, "httpx": httpx_, "beside": beside, "fails": fails, "patience": patience,
        "loop": loop, "not-http": not_http, "late": late, "keep": keep, "find": find, "many": many}
#: In no task: they run a loop of their own.
PLAIN = {"loop"}


@agent
def ask(ctx, message):
    way, base, tls = message.text.split(" ")
    if way in PLAIN:
        return json.dumps(WAYS[way](base, tls))
    return in_a_task(way, base, tls)


async def in_a_task(way, base, tls):
    answer = WAYS[way](base, tls)
    return json.dumps(await answer if asyncio.iscoroutine(answer) else answer)
