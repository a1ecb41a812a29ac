"""Serves git's smart HTTP protocol: an ASGI app around `git http-backend`. A push is received in full before git gets
it, so that a client which disconnects half-way changes nothing. Output is sent as it comes, because the pusher follows
the build's log.
"""

import asyncio
import io
import logging
import re
import secrets
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.build.git.pre_receive_objects import HIDDEN
from services.build.git.push_refusal import refs_of, refuse
from services.build.git.repository import GIT_ENVIRONMENT, config_variables
from services.build.system.pipe import PipeEnd
from services.build.system.process_exit import exit_code
from services.build.system.raw_file import write_all
from shared.errors import InsufficientStorage, Problem
from shared.host.disk_reserve import DiskReserve
from shared.host.shortage import shortage
from shared.manifest import MIB
from shared.store import RedisError, redis_unavailable

log = logging.getLogger(__name__)

PUSH = "git-receive-pack"
SERVICES = ("git-upload-pack", PUSH)
COPIES = 2  # of a push on the disk: as it comes, and as git stores it
_PATH = re.compile(r"/git/(?P<app>[^/]+?)(?:\.git)?/(?P<action>info/refs|git-upload-pack|git-receive-pack)")


class ClientGone(Exception):
    """Reports that the client disconnected before its request was complete."""


class GitHttp:
    """Serves `/git/<app>.git/…`. `hooks` is the folder of git's hooks, which also get `variables` as environment.
    `spool` is the folder that stores a request until it is complete. `admit(app, pushing)` is awaited before each
    request, and creates the repository for a first push; if it raises a Problem, the client gets that as the answer. A
    push for which the `reserve` of the disk has no room is refused.
    """

    def __init__(
        self,
        repositories: Path,
        hooks: Path,
        spool: Path,
        admit: Callable[[str, bool], Awaitable[None]],
        variables: dict[str, str],
        largest_push_bytes: int,
        reserve: DiskReserve,
    ) -> None:
        self._repositories = repositories
        self._hooks = hooks
        self._spool = spool
        self._admit = admit
        self._variables = variables
        self._largest = largest_push_bytes
        self._reserve = reserve
        self._connected: set[str] = set()

    def is_connected(self, push: str) -> bool:
        """Returns True while the client that sent the push with the id `push` is connected. git's hooks get this id in
        the variable SLIPWAY_PUSH.
        """
        return push in self._connected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        match = _PATH.fullmatch(scope["path"])
        service = request.query_params.get("service", "") if match and match["action"] == "info/refs" else ""
        wanted = service if service else (match["action"] if match else "")
        allowed = wanted in SERVICES and request.method == ("GET" if service else "POST")
        if match is None or not allowed:
            await PlainTextResponse("only git's smart HTTP protocol is spoken here\n", 404)(scope, receive, send)
            return
        pushing = wanted == PUSH
        try:
            if pushing and service and (why := self._reserve.refusal):
                raise InsufficientStorage(f"the push is refused: {why}; then push again")
            await self._admit(match["app"], pushing)
        except RedisError as error:
            await _refuse(redis_unavailable(error))(scope, receive, send)
            return
        except Problem as problem:
            await _refuse(problem)(scope, receive, send)
            return
        except OSError as error:
            await _refuse(_shortage(error))(scope, receive, send)
            return
        push = secrets.token_hex(16)
        room = min(self._largest, self._reserve.room_bytes // COPIES) if pushing else self._largest
        size, first, is_whole = 0, b"", False
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._spool, buffering=0) as body:
                async for chunk in _chunks(receive):
                    first = first or chunk
                    write_all(body, chunk)
                    size += len(chunk)
                    if size > room:
                        await self._too_large(body, size)(scope, receive, send)
                        return
                is_whole = True
                body.seek(0)
                path = f"/{match['app']}.git/{match['action']}"
                git = self._start({**self._cgi(request, path, size), "SLIPWAY_PUSH": push}, body)
        except ClientGone:
            return
        except OSError as error:
            await self._refuse_push(io.BytesIO(first), _shortage(error), is_whole=is_whole)(scope, receive, send)
            return
        self._connected.add(push)
        listening = asyncio.create_task(self._watch_client(push, receive))
        try:
            await _answer(git, send)
        finally:
            listening.cancel()
            self._connected.discard(push)

    def _too_large(self, body: IO[bytes], size: int) -> ASGIApp:
        if size > self._largest:
            most = f"a push may carry {self._largest // MIB} MB"
            remedy = "push the history in parts, keep large files elsewhere, or raise SLIPWAY_BUILD_PUSH_MB"
            return self._refuse_push(body, Problem(f"{most}; {remedy}", status=413), brief=most)
        why = self._reserve.refusal or (
            "it needs more room than the disk has until it counts as full (SLIPWAY_DISK_FULL_MB); delete what is not "
            "needed, or enlarge it"
        )
        return self._refuse_push(body, InsufficientStorage(f"the push is refused: {why}; then push again"))

    def _refuse_push(
        self, head: IO[bytes], problem: Problem, *, brief: str = "the machine has no room", is_whole: bool = False
    ) -> ASGIApp:
        """Returns an ASGI app that answers a push which is refused, because of `problem`, before git gets it. `head`
        holds at least the beginning of the push, `is_whole` is True if the push was read to its end, and `brief` is the
        reason that git shows for each ref.
        """
        refs = refs_of(head)
        if refs is None:
            return _refuse(problem)
        return lambda _, receive, send: refuse(
            refs, problem.detail, brief, self._largest, _nothing if is_whole else receive, send
        )

    async def _watch_client(self, push: str, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._connected.discard(push)

    def _cgi(self, request: Request, path: str, size: int) -> dict[str, str]:
        headers = request.headers
        config = {
            "core.hooksPath": str(self._hooks),
            "safe.directory": "*",
            "http.receivepack": "true",
            "http.getanyfile": "false",
            "transfer.hideRefs": HIDDEN,
            # Packs are checked: names such as `.git` and `..`, and duplicate names, are refused. Harmless faults that
            # old tools wrote are accepted, otherwise repositories with a long history could not be pushed.
            "receive.fsckObjects": "true",
            "receive.fsck.badTimezone": "ignore",
            "receive.fsck.missingSpaceBeforeDate": "ignore",
            "receive.fsck.zeroPaddedFilemode": "ignore",
            "receive.maxInputSize": str(self._largest),
            "receive.unpackLimit": "1",  # only index-pack reads large files in slices
            "core.bigFileThreshold": "16m",
            "receive.autogc": "false",  # git's background process would keep the push open
        }
        return {
            **GIT_ENVIRONMENT,
            **self._variables,
            "GIT_PROJECT_ROOT": str(self._repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": request.url.query,
            "REQUEST_METHOD": request.method,
            "REMOTE_USER": "slipway",
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(size),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            **config_variables(config),
        }

    def _start(self, environment: dict[str, str], body: IO[bytes]) -> subprocess.Popen[bytes]:
        # Not asyncio's subprocess: under uvloop, the next push would inherit the pipes of this one.
        return subprocess.Popen(
            ["git", "http-backend"], env=environment, stdin=body, stdout=subprocess.PIPE, start_new_session=True
        )


def _shortage(error: OSError) -> Problem:
    """Returns a problem that says what the machine has run out of, and logs it. Raises `error` if it means something
    else.
    """
    if (problem := shortage(error)) is None:
        raise error
    log.error("git over HTTP: %s", problem.detail, exc_info=error)
    return problem


def _refuse(problem: Problem) -> Response:
    """Returns the problem as a response in plain text, which git shows to the user."""
    return PlainTextResponse(f"{problem.detail}\n", problem.status)


async def _chunks(receive: Receive) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _answer(git: subprocess.Popen[bytes], send: Send) -> None:
    """Copies the response of `git http-backend` to the client. If the client disconnects, git still runs to its end."""
    assert git.stdout is not None
    pipe = PipeEnd(git.stdout.fileno())
    try:
        head = await pipe.read()
        while b"\r\n\r\n" not in head:
            if not (more := await pipe.read()):
                raise EOFError
            head += more
        head, _, chunk = head.partition(b"\r\n\r\n")
        status, headers = _cgi_head(head)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while chunk := chunk or await pipe.read():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = b""
        await send({"type": "http.response.body", "body": b""})
    except EOFError:
        log.error("git http-backend ended without an answer")
        body = PlainTextResponse("git gave no answer; the log of the build service has more\n", 500)
        await body({"type": "http"}, _nothing, send)
    finally:
        git.stdout.close()
        await exit_code(git)


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


def _cgi_head(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    pairs = [line.partition(b":") for line in head.strip().split(b"\r\n")]
    headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
    status = next((int(value.split()[0]) for name, value in headers if name == b"status"), 200)
    return status, [header for header in headers if header[0] != b"status"]
