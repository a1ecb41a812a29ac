"""Makes the held home: `python -m tests.e2e.old_home.make CHECKOUT MODULE`; README.md says how, and when."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from shared.config import SharedSettings
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack, end_launcher, environment, settings_on_free_ports
from stack.local.programs import ROOT
from tests.e2e.old_home.contract import ANSWERS, ARCHIVE, HOME, answers
from tests.e2e.old_home.fill import fill

# The services' own output, sockets, what each start writes anew, and what only makes builds quicker.
LEFT_OUT = ("logs/*.log", "*.log", "cache", "supervisord.conf", "redis/redis.conf", "**/*.sock", "*.pid")
ELSEWHERE = "/opt/slipway"  # stands for the checkout, whose Python git's hooks name


class MessageSink(BaseHTTPRequestHandler):
    """Accepts whatever the monitor sends."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


def main(checkout: Path, module: str) -> None:
    home = Path(HOME)
    home.mkdir(mode=0o700)  # FileExistsError: another one is being made
    try:
        settings = settings_on_free_ports(home)
        with (
            launched(checkout, module, settings) as stack,
            message_sink() as url,
            tempfile.TemporaryDirectory() as clones,
        ):
            fill(stack, Path(clones), url)
            ANSWERS.write_text(json.dumps(answers(stack), indent=1, ensure_ascii=False) + "\n")
        for hook in (home / "hooks").iterdir():
            hook.write_text(hook.read_text().replace(str(checkout), ELSEWHERE))
        refuse_traces(home, checkout)
        pack(home)
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def launched(checkout: Path, module: str, settings: SharedSettings) -> Iterator[LocalStack]:
    """Runs the stack of another checkout, by the virtual environment in it."""
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", module]
    with (settings.home / "launcher.log").open("wb") as output:
        variables = {**os.environ, **environment(settings), "PATH": os.defpath}
        launcher = subprocess.Popen(command, cwd=checkout, env=variables, stdout=output, stderr=output)
    try:
        stack = LocalStack(settings)
        wait_for(lambda: stack.is_ready() or launcher.poll() is not None, "the stack", 60)
        yield stack
    finally:
        end_launcher(launcher)


@contextlib.contextmanager
def message_sink() -> Iterator[str]:
    """Yields the apprise URL of a server that accepts messages."""
    with HTTPServer(("127.0.0.1", 0), MessageSink) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}"
        server.shutdown()


def refuse_traces(home: Path, checkout: Path) -> None:
    """Exits if a file of the archive names anything of the machine that it was made on."""
    places = {str(each) for each in (ROOT, checkout, checkout.resolve(), Path.home(), sys.prefix, sys.base_prefix)}
    words = [word.encode() for word in (*places, "/simple", "index-url")]
    for path in _packed(home):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        if found := [word.decode() for word in words if word in content]:
            sys.exit(f"{path} names {found}; nothing was packed")


def pack(home: Path) -> None:
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for path in _packed(home):
            member = archive.gettarinfo(path, str(path.relative_to(home)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            with path.open("rb") if member.isreg() else contextlib.nullcontext() as content:
                archive.addfile(member, content)


def _packed(home: Path) -> list[Path]:
    left_out = {path for pattern in LEFT_OUT for path in home.glob(pattern)}
    return [path for path in sorted(home.rglob("*")) if not left_out & {path, *path.parents}]


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2])
