"""The messages of protocol.json against roverd: python3 schema.py HOST:PORT

Says all that a client can say, and validates every message, in both directions, with Debian's jsonschema. It starts
another roverd, whose car has no camera, and which wants tokens and allows few messages: the program in ROVERD_BIN.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from importlib.metadata import version

import jsonschema
import websockets

SCHEMA = json.loads((pathlib.Path(__file__).parent.parent / "protocol.json").read_text())
CONTROL, VIEW = "control-0123456789", "view-0123456789"
# Errors that a simulated car does not get, or that are not for WebSockets: TestProtocolCodes and others have them.
OUT_OF_REACH = {"busy", "off", "failed", "closed"}
ANY = "any"  # code of an answer
seen_ops, seen_codes, seen_fields = set(), set(), {}


def close(schema):
    """Has a schema forbid what it does not name: clients must not, but here it would be a field without a description."""
    if "properties" in schema and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    for sub in schema.get("$defs", {}).values():
        close(sub)
    for sub in schema.get("properties", {}).values():
        if isinstance(sub, dict):
            close(sub)


def definition(*names):
    """Returns the validator of a part of the schema."""
    ref = "#" + "".join(f"/$defs/{name}" for name in names)
    return jsonschema.Draft202012Validator({"$ref": ref, "$defs": SCHEMA["$defs"]})


def validate(message, *names):
    try:
        definition(*names).validate(message)
    except jsonschema.ValidationError as error:
        raise SystemExit(f"schema: {json.dumps(message)[:300]} is no {names[-1]}: {error.message[:300]}")


def must(what, condition, *shown):
    if not condition:
        raise SystemExit(f"schema: {what}: {shown!r:.300}")


class Client:
    def __init__(self, ws):
        self.ws = ws
        self.ids = 0

    async def receive(self):
        message = json.loads(await asyncio.wait_for(self.ws.recv(), 20))
        validate(message, "server", message["op"])
        seen_fields.setdefault(message["op"], set()).update(message)
        if message["op"] == "error":
            seen_codes.add(message["code"])
        return message

    async def until(self, match):
        while not match(message := await self.receive()):
            pass
        return message

    async def send(self, message):
        """Sends what must be valid."""
        if isinstance(message, str):
            validate(message, "word")
        else:
            validate(message, "client", message["op"])
            seen_ops.add(message["op"])
        await self.ws.send(message if isinstance(message, str) else json.dumps(message))

    async def ask(self, op, code=None, **fields):
        """Sends an op, and returns its answer, which must be an error if a code says so."""
        self.ids += 1
        await self.send({"op": op, "id": self.ids, **fields})
        answer = await self.until(lambda m: m.get("id") == self.ids)
        must(f"the answer to {op}", code == ANY or answer.get("code") == code, answer)
        return answer

    async def wrong(self, text, code):
        """Sends what must not be valid."""
        try:
            message = json.loads(text)
        except (ValueError, UnicodeDecodeError):
            message = text
        if isinstance(text, str):
            must("this is described as valid", not definition("client").is_valid(message), text)
        await self.ws.send(text)
        answer = await self.until(lambda m: m["op"] == "error")
        must(f"the answer to {text}", answer["code"] == code, answer)


def connect(at, token=""):
    return websockets.connect(f"ws://{at}/ws", subprotocols=[SCHEMA["title"]], extra_headers={"Authorization": f"Bearer {token}"} if token else {})


async def words_and_mistakes(at):
    async with connect(at) as ws:
        must("the subprotocol", ws.subprotocol == SCHEMA["title"], ws.subprotocol)
        c = Client(ws)
        must("the first message", (await c.receive())["op"] == "welcome")
        for word in SCHEMA["$defs"]["word"]["oneOf"]:
            text = {"auth": "auth x", "name": "name Ann"}.get(word["title"], word["title"])
            for message in [text] + [f"{text} 5"] * ("x-number" in word):
                await c.send(message)
                await c.until(lambda m: m["op"] in ("ack", "error", "pong") or message == "state" and m["op"] == "state")
        for text, code in (
            ("fly", "unknown_command"), ("up fast", "bad_value"), ("stop 5", "bad_value"), ("", "unknown_command"), ("name " + "x" * 33, "bad_value"),
            ('{"op":"fly"}', "unknown_command"), ("{}", "unknown_command"), ('{"op":"drive"', "bad_json"), (b"up", "binary"),
            ('{"op":"drive"}', "bad_value"), ('{"op":"drive","left":1}', "bad_value"), ('{"op":"drive","left":"1","right":1}', "bad_value"),
            ('{"op":"drive","left":1,"right":1,"throttle":1}', "bad_value"), ('{"op":"drive","throttle":1,"left":1}', "bad_value"),
            ('{"op":"drive","left":1,"right":1,"ttl_ms":0}', "bad_value"), ('{"op":"drive","left":1,"right":1,"seq":-1}', "bad_value"),
            ('{"op":"stop","id":1.5}', "bad_value"), ('{"op":"look","pan":1}', "bad_value"), ('{"op":"auth"}', "bad_value"), ('{"op":"name","name":7}', "bad_value"),
        ):
            await c.wrong(text, code)


async def helm(at):
    async with connect(at) as a, connect(at) as b, connect(at) as c:
        ann, bob, cleo = Client(a), Client(b), Client(c)
        names = [(await client.receive())["id"] for client in (ann, bob, cleo)]
        await ann.ask("name", name="Ann")
        await bob.ask("name", name="Bob")
        await ann.ask("drive", left=0.2, right=-0.2)
        await bob.ask("drive", "not_driver", left=0.2, right=0.2)
        must("the claim", not (await bob.ask("claim"))["applied"])
        claim = await ann.until(lambda m: m["op"] == "claim")
        must("the claim that the driver sees", claim["from"] == names[1] and claim["name"] == "Bob", claim)
        await cleo.ask("claim", "claimed")
        await cleo.until(lambda m: m["op"] == "state" and m.get("claim") == names[1] and m["driver_name"] == "Ann")
        await ann.ask("refuse")
        await bob.until(lambda m: m.get("code") == "refused" and "id" not in m)
        await bob.ask("claim", "refused")
        await cleo.ask("claim")
        await ann.ask("drive", left=0.2, right=-0.2)
        await ann.ask("grant")
        await bob.until(lambda m: m["op"] == "state" and m["driver"] == names[2] and m["cause"] == "handover")
        await ann.ask("grant", "no_claim")
        await ann.ask("release", "not_driver")
        await cleo.ask("look", pan=10, tilt=-5)
        await cleo.ask("release")
        await cleo.ask("stop")
        await cleo.ask("ping")
        await cleo.ask("state")
        await cleo.ask("drive", throttle=0.2, steer=-1, seq=5, t_ms=0, ttl_ms=300)
        await cleo.ask("drive", "stale", throttle=0.2, seq=4)
        await cleo.until(lambda m: m["op"] == "state" and m["cause"] == "ttl")
        await cleo.ask("estop")
        await cleo.ask("drive", "estop", throttle=0.2)
        await cleo.ask("reset")
        while (await cleo.ask("drive", ANY, throttle=1)).get("code") != "blocked":  # by a wall of the simulated room
            await asyncio.sleep(0.1)


async def tokens(at):
    async with connect(at, VIEW) as ws:
        c = Client(ws)
        must("the role", (await c.receive())["role"] == "view")
        await c.ask("drive", "not_allowed", throttle=1)
        await c.ask("auth", "bad_token", token="wrong-0123456789")
        must("the role of the token", (await c.ask("auth", token=CONTROL))["role"] == "control")
        await c.ask("look", "no_camera", pan=1, tilt=1)
        state = await c.ask("state")
        must("a car without a camera", "camera" not in state, state)
        try:
            while True:
                await c.send({"op": "ping"})
                await c.receive()
        except websockets.ConnectionClosed:
            pass
        must("the end", ws.close_code == 1008 and "too_fast" in seen_codes, ws.close_code)


async def main():
    close(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    await words_and_mistakes(sys.argv[1])
    await helm(sys.argv[1])
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write('[motors]\npreset = "camjam3"\n')
        config.flush()
        roverd = subprocess.Popen(
            [os.environ["ROVERD_BIN"], "-sim", "-addr", "127.0.0.1:0", "-config", config.name, "-max-messages", "20", "-log-level", "error"],
            env={**os.environ, "ROVERD_CONTROL_TOKEN": CONTROL, "ROVERD_VIEW_TOKEN": VIEW}, stdout=subprocess.PIPE, text=True)
        try:
            at = roverd.stdout.readline().split()[1].removeprefix("http://").rstrip("/")
            await tokens(at)
        finally:
            roverd.terminate()
            roverd.wait()
    described = SCHEMA["$defs"]
    must("ops that were not said", seen_ops == set(described["client"]["$defs"]), set(described["client"]["$defs"]) - seen_ops)
    codes = {code["const"] for code in described["code"]["oneOf"]}
    must("codes that did not come", seen_codes | OUT_OF_REACH == codes, codes - seen_codes)
    for op, message in described["server"]["$defs"].items():
        missing = set(message["properties"]) - seen_fields.get(op, set()) - {"fault"}
        must(f"fields of {op} that did not come", not missing, missing)
    print(f"ok jsonschema {version('jsonschema')}, every message of protocol.json")


asyncio.run(main())
