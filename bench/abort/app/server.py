"""Answers GET and POST: good ones, and those by which a canary is bad. `canary-mode` says what `/` does in the canary.

| path | answer |
|---|---|
| `/up`, `/version` | 200; the commit |
| `/`, `/good` | 200, after 20 ms |
| `/fail` | 500 |
| `/hang` | none |
| `/slow` | 200, after 150 ms |
| `/cut` | 200, but ends in the middle |
| `/events` | an event stream of 3 s |
| `/die` | none: the process ends |
| `/reset` | none: the connection ends after 0.5 s |
| `/run?id` | 200, after 20 ms |

The file that `calls` names gets a line for each request that begins or ends in `/run`, and for `/die` and `/reset`.
"""

import asyncio
import json
import os
from pathlib import Path

TRACK = os.environ.get("SLIPWAY_TRACK", "stable")
VERSION = json.dumps({"commit": os.environ.get("SLIPWAY_COMMIT", "")}).encode()


def setting(name: str) -> str:
    path = Path(name)
    return path.read_text().strip() if path.exists() else ""


INSTANCE = os.environ.get("SLIPWAY_INSTANCE", "")
MODE = setting("canary-mode") if TRACK == "canary" else ""
CALLS = setting("calls")


def call(word: str, ident: str = "") -> None:
    """Adds a line to the file of calls; a line this short is never torn."""
    if CALLS:
        with open(CALLS, "a") as calls:
            calls.write(f"{word} {ident or TRACK} {os.environ.get('SLIPWAY_INSTANCE', '')}\n")


async def answer(path: str, out: asyncio.StreamWriter) -> bool:
    """Writes the answer. Returns False if the connection is to end."""
    name, _, argument = path.partition("?")
    if name == "/" and MODE:
        name = f"/{MODE}"
    if name in ("/", "/good"):
        await asyncio.sleep(0.02)
    elif name == "/fail":
        out.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 3\r\n\r\nbad")
        return True
    elif name == "/hang":
        await asyncio.sleep(3600)
    elif name == "/slow":
        await asyncio.sleep(0.15)
    elif name == "/cut":
        out.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart")
        return False
    elif name == "/events":
        out.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number in range(6):
            out.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(0.5)
        return False
    elif name == "/die":
        call("died")
        os._exit(7)
    elif name == "/reset":
        call("reset")
        await asyncio.sleep(0.5)
        return False
    elif name == "/run":
        call("begun", argument)
        await asyncio.sleep(0.02)
        call("ended", argument)
    body = VERSION if name == "/version" else f"{TRACK}\n".encode()
    out.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return True


async def serve(lines: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    try:
        while head := (await lines.readuntil(b"\r\n\r\n")).decode("latin-1"):
            for line in head.split("\r\n"):
                if line.lower().startswith("content-length:"):
                    await lines.readexactly(int(line.partition(":")[2]))
            if not await answer(head.split(" ", 2)[1], out):
                break
            await out.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    out.close()


async def main() -> None:
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
    async with await asyncio.start_server(serve, *address, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
