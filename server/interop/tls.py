"""curl, openssl and Python's websockets against roverd with TLS: python3 tls.py

It starts the program that ROVERD_BIN names.
"""

import asyncio
import json
import subprocess
import time

import websockets
from roverd import certificate, equal, roverd


def curl(cert, *args):
    return subprocess.run(["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", cert, *args],
                          capture_output=True, text=True).stdout  # fmt: skip


def pages(url, cert):
    form = "%{http_code} %{http_version} %{num_connects} "
    for flags in ([], ["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3"], ["--http2"], ["--no-alpn"]):
        got = curl(cert, *flags, "--write-out", form, "--output", "/dev/null", url, "--output", "/dev/null", url + "state")
        equal(f"two pages with curl {flags}", got, "200 1.1 1 200 1.1 0 ")
    equal("a page as large as it is", curl(cert, url).count("</html>"), 1)
    plain = url.replace("https", "http")
    equal("without TLS", curl(cert, "--write-out", " %{http_code}", plain).split()[-1], "400")
    old = curl(cert, "--tls-max", "1.1", "--write-out", "%{http_code}", url)
    equal("with TLS 1.1", old, "000")


async def sockets(url, trust):
    url = url.replace("https", "wss")
    async with websockets.connect(url + "echo", ssl=trust, max_size=None) as ws:
        for size in (0, 1, 16383, 16384, 16385, 1 << 20, 16 << 20):
            await ws.send(b"x" * size)
            equal(f"an echo of {size}", await ws.recv(), b"x" * size)
    equal("the close code", ws.close_code, 1000)
    async with websockets.connect(url, ssl=trust) as ws:
        equal("the role", json.loads(await ws.recv())["role"], "control")
        await ws.send("up")
        while json.loads(await ws.recv())["op"] != "ack":
            pass


def key_update(url, cert):
    """openssl s_client changes its keys at a line K, and has the server do so, too."""
    at = url.removeprefix("https://").rstrip("/")
    client = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-CAfile", cert, "-verify_return_error", "-connect", at],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    for line in ("GET /state HTTP/1.1", "Host: x", "", "K", "GET /healthz HTTP/1.1", "Host: x", "Connection: close", ""):
        client.stdin.write(line + "\n" if line == "K" else line + "\r\n")
        client.stdin.flush()
        time.sleep(0.1)  # s_client looks for its commands at the beginning of what one read returns
    said, _ = client.communicate(timeout=20)
    equal("the answers around a KeyUpdate", (said.count("KEYUPDATE"), said.count("200 OK")), (1, 2))


with certificate() as (cert, key, trust), roverd("-tls-cert", cert, "-tls-key", key) as url:
    equal("the URL", url.split(":")[0], "https")
    pages(url, cert)
    asyncio.run(asyncio.wait_for(sockets(url, trust), 40))
    key_update(url, cert)
print("ok TLS with curl,", subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.strip())
