"""roverd behind nginx, which it trusts and which terminates TLS: python3 nginx.py

It starts the program that ROVERD_BIN names.
"""

import asyncio
import json
import subprocess
import tempfile
import time
import urllib.request

import websockets
from roverd import certificate, equal, free_port, roverd, running

PROXY = "127.0.0.9"  # where nginx connects from
CONFIG = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
events {{}}
http {{
	access_log off;
	client_body_temp_path {dir}/1; proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3; uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5;
	map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
	map $http_x_from $client {{ default $http_x_from; "" $remote_addr; }} # for the test: there is but one client's address
	upstream roverd {{ server {at}; keepalive 4; }}
	server {{
		listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
		location / {{
			proxy_pass http://roverd; proxy_bind {proxy};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_set_header X-Forwarded-For $client;
			proxy_set_header X-Forwarded-Host $http_host;
			proxy_set_header X-Forwarded-Proto $scheme;
		}}
	}}
}}
"""


async def behind(proxy, trust):
    def connect(path, **headers):
        return websockets.connect(f"wss://{proxy}{path}", ssl=trust, max_size=None, extra_headers=headers)

    def get(path):
        with urllib.request.urlopen(f"https://{proxy}{path}", context=trust, timeout=20) as r:
            return r.status, r.read()

    for _ in range(3):  # over connections that nginx keeps, for either
        equal("the page", get("/")[0], 200)
        equal("the state", json.loads(get("/state")[1])["op"], "state")
        async with connect("/echo") as ws:
            for size in (0, 1, 65536, 1 << 20):
                await ws.send(b"x" * size)
                equal(f"an echo of {size}", await ws.recv(), b"x" * size)
        equal("the close code", ws.close_code, 1000)

    async with connect("/", Origin=f"https://{proxy}") as ws:
        equal("the first message", json.loads(await ws.recv())["op"], "welcome")
    await refused(403, connect("/", Origin="https://elsewhere"))

    client = {"X-From": "192.0.2.1"}
    async with connect("/", **client), connect("/", **client):
        await refused(503, connect("/", **client))
        async with connect("/", **{"X-From": "192.0.2.2"}):
            pass
    async with connect("/", **client):
        pass


async def refused(status, connecting):
    try:
        async with connecting:
            raise SystemExit(f"a connection that is to be refused with {status} is open")
    except websockets.InvalidStatusCode as e:
        equal("the refusal", e.status_code, status)


with (
    tempfile.TemporaryDirectory() as dir,
    certificate() as (cert, key, trust),
    roverd("-trusted-proxies", PROXY, "-max-per-addr", "2") as direct,
):
    port = free_port()
    with open(f"{dir}/conf", "w") as f:
        at = direct.removeprefix("http://").rstrip("/")
        f.write(CONFIG.format(dir=dir, at=at, port=port, cert=cert, key=key, proxy=PROXY))
    with running(["nginx", "-e", f"{dir}/error.log", "-p", dir, "-c", f"{dir}/conf"]):
        for _ in range(100):
            try:
                urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", context=trust, timeout=20).close()
                break
            except OSError:
                time.sleep(0.1)
        asyncio.run(asyncio.wait_for(behind(f"127.0.0.1:{port}", trust), 40))
print("ok", subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip())
