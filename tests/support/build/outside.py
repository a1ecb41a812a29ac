"""An outside forge: real git over HTTP with Basic auth, and an API that is told commit statuses."""

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services.build.git.git_http import GitHttp
from shared.host.disk_reserve import DiskReserve
from shared.host.machine import DiskLimits
from shared.security.auth import TokenAuth
from tests.support.build.service import git_environment
from tests.support.ports import free_port, wait_for_port

FORGE_TOKEN = "token-of-the-outside-forge"


class OutsideForge:
    """Serves `<folder>/<name>.git` at `/git/<name>.git`, to whoever has the token. `asked`: paths of git's requests;
    `runs`: how often git came with credentials (once to look, and once more if there is something to fetch). `down`:
    answers 503; `hangs`: answers nothing. `statuses`: bodies that were posted, with their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.asked: list[str] = []
        self.runs = 0
        self.statuses: list[tuple[str, dict[str, str]]] = []
        self.down = self.hangs = False
        git = GitHttp(
            folder, folder / "hooks", folder / "spool", self._admit, {}, 2**30, DiskReserve(folder, DiskLimits(0, 0, 0))
        )
        self._git = TokenAuth(git, token=FORGE_TOKEN, is_public=lambda scope: False)

    def url(self, name: str = "notes") -> str:
        return f"http://127.0.0.1:{self.port}/git/{name}.git"

    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _admit(self, name: str, pushing: bool) -> None:
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/api/"):
            await self._api(scope, receive, send)
            return
        self.asked.append(scope["path"])
        self.runs += scope["path"].endswith("/info/refs") and b"authorization" in dict(scope["headers"])
        while self.hangs:
            await asyncio.sleep(0.05)
        if self.down:
            await JSONResponse({}, 503)(scope, receive, send)
            return
        await self._git(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        allowed = (b"authorization", f"token {FORGE_TOKEN}".encode()) in scope["headers"]
        if allowed:
            self.statuses.append((scope["path"], json.loads(body + message["body"])))
        await JSONResponse({}, 201 if allowed else 401)(scope, receive, send)

    @contextmanager
    def serving(self) -> Iterator["OutsideForge"]:
        config = uvicorn.Config(self, "127.0.0.1", self.port, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_for_port(self.port)
        try:
            yield self
        finally:
            self.hangs = False
            server.should_exit = True
            thread.join(10)


class OutsideDeveloper:
    """Commits to a repository of the forge, past its HTTP."""

    def __init__(self, folder: Path, forge: OutsideForge, name: str = "notes") -> None:
        self._folder = folder
        self._remote = forge.folder / f"{name}.git"
        self._git("init", "--quiet", "--bare", str(self._remote), folder=forge.folder)
        folder.mkdir()
        self._git("init", "--quiet", "--initial-branch=release")

    def push(self, message: str = "Say hello", branch: str = "release", **files: str) -> str:
        """The commit's id."""
        for name, content in files.items():
            (self._folder / name).write_text(content)
        self._git("add", "--all")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", message)
        self.push_refs(f"+HEAD:refs/heads/{branch}")
        return self._git("rev-parse", "HEAD").strip()

    def push_refs(self, *refs: str) -> None:
        self._git("push", "--quiet", str(self._remote), *refs)

    def back(self) -> None:
        """The commit before is the head again."""
        self._git("reset", "--quiet", "--hard", "HEAD~1")

    def _git(self, *arguments: str, folder: Path | None = None) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder or self._folder,
            env=git_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
