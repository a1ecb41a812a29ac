"""Refuses a push, such as one that is too large, while it arrives, in such a way that the pusher can read why. Of an
HTTP error, git shows only the number. Therefore the status is 200, and the body is what git's own server would send: a
line for the terminal and, after the client has sent its data, a report that rejects every ref.
"""

from collections.abc import Iterator
from typing import IO

from starlette.types import Receive, Send

LONGEST_HEAD = 2**20  # bytes of the commands at the beginning of a push
DRAINED = 4  # up to this many times the limit is read and dropped before the connection is closed
_BAND = 65_000  # most bytes in one packet
_REPORT, _TERMINAL = b"\1", b"\2"
_REPORTS = {b"report-status", b"report-status-v2"}  # both have the same format if nothing is accepted
_TYPE = [(b"content-type", b"application/x-git-receive-pack-result"), (b"connection", b"close")]


def refs_of(body: IO[bytes]) -> list[bytes] | None:
    """Returns the names of the refs that the push in `body` updates. Returns None if the body is no push, or if the
    pusher's git could not show a refusal.
    """
    body.seek(0)
    head = body.read(LONGEST_HEAD)
    refs, able = [], set[bytes]()
    for packet in _packets(head):
        command, _, abilities = packet.partition(b"\0")
        able.update(abilities.split())
        if len(fields := command.rstrip(b"\n").split(b" ", 2)) == 3:
            refs.append(fields[2])
    return refs if b"side-band-64k" in able and able & _REPORTS else None


async def refuse(refs: list[bytes], reason: str, brief: str, limit: int, receive: Receive, send: Send) -> None:
    """Answers the push with a refusal: sends `reason` for the terminal, reads and drops the rest of the push (up to
    four times `limit`, the largest allowed size in bytes), then sends `brief` as the reason for each of `refs`.
    """
    await send({"type": "http.response.start", "status": 200, "headers": _TYPE})
    await send({"type": "http.response.body", "body": _in(_TERMINAL, f"{reason}\n".encode()), "more_body": True})
    drained, more = 0, True
    while more and drained <= DRAINED * limit:
        message = await receive()
        drained += len(message.get("body", b""))
        more = message["type"] != "http.disconnect" and message.get("more_body", False)
    lines = [b"unpack " + brief.encode(), *(b"ng " + ref + b" " + brief.encode() for ref in refs)]
    report = b"".join(_packet(line + b"\n") for line in lines) + b"0000"
    await send({"type": "http.response.body", "body": _in(_REPORT, report) + b"0000"})


def _packets(data: bytes) -> Iterator[bytes]:
    """Yields the content of each packet in git's pkt-line format, up to a flush packet or the first byte that is not in
    this format.
    """
    at = 0
    while (digits := data[at : at + 4]).isalnum() and len(digits) == 4:
        try:
            length = int(digits, 16)
        except ValueError:
            return
        if length <= 4 or at + length > len(data):
            return
        yield data[at + 4 : at + length]
        at += length


def _packet(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def _in(band: bytes, data: bytes) -> bytes:
    return b"".join(_packet(band + data[at : at + _BAND]) for at in range(0, len(data), _BAND))
