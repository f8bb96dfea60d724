"""Python's websockets against roverd: python3 websockets_client.py HOST:PORT

(A file called websockets.py would import itself.)
"""

import asyncio
import json
import platform
import sys

import websockets

AT = sys.argv[1]


def equal(what, got, want):
    if got != want:
        raise SystemExit(f"websockets: {what}: got {got!r:.100}, want {want!r:.100}")


def connect(path, *protocols):
    return websockets.connect(f"ws://{AT}{path}", max_size=None, subprotocols=protocols or None)


async def closed(ws):
    """Returns the code that the server closes with."""
    await ws.wait_closed()
    return ws.close_code


async def echo():
    async with connect("/echo") as ws:
        equal("extensions", ws.extensions, [])
        equal("subprotocol", ws.subprotocol, None)
        for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20):
            for sent in ("ü" * (size // 2) + "x" * (size % 2), b"\xff\x00\x80"[: size % 3 + 1] * size):
                what = f"{type(sent).__name__} of {len(sent)}"
                await ws.send(sent)
                equal(what, await ws.recv(), sent)
                step = len(sent) // 7 + 1
                await ws.send([sent[i : i + step] for i in range(0, len(sent), step)] + [sent[:0]])
                equal(what + " in fragments", await ws.recv(), sent)
        for payload in (b"", b"are you there?", b"\xff" * 125):
            await (await ws.ping(payload))  # raises if the pong's payload is another
        await ws.close(4001, "enough")
        equal("the code of our own close", await closed(ws), 4001)


async def closed_by_server():
    async with connect("/echo") as ws:
        try:
            await ws.send(bytes((16 << 20) + 1))
        except websockets.ConnectionClosed:
            pass  # the server need not wait for all of it
        equal("more than 16 MiB", await closed(ws), 1009)


async def rover():
    for path, offered, selected in (
        ("/", (), None),
        ("/ws", ("roverd.v1",), "roverd.v1"),
        ("/ws", ("unknown", "roverd.v1", "roverd.v0"), "roverd.v1"),
        ("/ws", ("unknown",), None),
    ):
        async with connect(path, *offered) as ws:
            equal(f"of {offered}", ws.subprotocol, selected)
            welcome = json.loads(await ws.recv())
            equal("the first message", (welcome["op"], welcome["car"]), ("welcome", "simulated"))
            await ws.send("stop")
            while (answer := json.loads(await ws.recv()))["op"] == "state":
                pass
            equal("the answer to stop", (answer["op"], answer.get("applied")), ("ack", True))
        equal("the code of our own close", ws.close_code, 1000)


async def main():
    await echo()
    await closed_by_server()
    await rover()
    print(f"ok websockets {websockets.__version__} on Python {platform.python_version()}")


asyncio.run(main())
