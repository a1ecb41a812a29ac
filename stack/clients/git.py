"""Pushes a small git repository to Slipway, as a developer would."""

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass
class Pushed:
    """Holds the result of a push. `output` is everything that git and the platform's hook have printed."""

    commit: str
    accepted: bool
    output: str


class Push:
    """Represents a running `git push`; `finish` waits for its end."""

    def __init__(self, commit: str, start: Callable[[IO[str]], "subprocess.Popen[bytes]"]) -> None:
        self.commit = commit
        self._output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  not a pipe: nobody reads it meanwhile
        self._process = start(self._output)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def tail(self) -> bytes:
        """Returns the last 4 KiB of the output so far."""
        descriptor = self._output.fileno()
        return os.pread(descriptor, 4096, max(0, os.fstat(descriptor).st_size - 4096))

    def finish(self, within_s: float = 300.0) -> Pushed:
        """Waits until git has ended and returns the result. Kills git after `within_s` seconds."""
        with self._output:
            try:
                code = self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
            self._output.seek(0)
            return Pushed(self.commit, code == 0, self._output.read())


class Repository:
    """Manages a git repository in `folder`, without the user's git configuration. `remote` is the URL to push to. git
    gets the token in its environment, never on a command line.
    """

    def __init__(self, folder: Path, remote: str, token: str) -> None:
        self.folder = folder
        self._remote = remote
        login = base64.b64encode(f"slipway:{token}".encode()).decode()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{remote}.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {login}",
            "GIT_TERMINAL_PROMPT": "0",
            **{f"GIT_{role}_NAME": "Slipway" for role in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{role}_EMAIL": "slipway@localhost" for role in ("AUTHOR", "COMMITTER")},
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", "--initial-branch", "release")

    def copy_from(self, source: Path) -> None:
        """Copies the files of the folder `source` into the repository, except caches and reports."""
        ignored = shutil.ignore_patterns("__pycache__", ".*cache", ".venv", ".coverage", "reports")
        shutil.copytree(source, self.folder, ignore=ignored, dirs_exist_ok=True)

    def replace(self, file: str, old: str, new: str) -> None:
        """Replaces the single occurrence of `old` in `file`. Raises ValueError if there is not exactly one."""
        path = self.folder / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file} says {old!r} {text.count(old)} times, not once")
        path.write_text(text.replace(old, new))

    def commit(self, message: str) -> str:
        """Commits all files, even if nothing has changed, and returns the commit's id."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        return self._git("rev-parse", "HEAD").strip()

    def pull(self, branch: str) -> None:
        """Resets HEAD and the files to the remote's branch."""
        self._git("fetch", "--quiet", self._remote, branch)
        self._git("reset", "--quiet", "--hard", "FETCH_HEAD")

    def go_back_to(self, commit: str) -> None:
        self._git("reset", "--quiet", "--hard", commit)

    def push(self, branch: str) -> Push:
        """Starts `git push --force` of HEAD to `branch`."""
        return Push(self._git("rev-parse", "HEAD").strip(), lambda output: self.open_push(branch, output))

    def open_push(self, branch: str, stdout: IO[str] | int) -> "subprocess.Popen[bytes]":
        """Starts a forced push of HEAD to `branch` whose output, with that of the platform's hook, goes to `stdout`."""
        return subprocess.Popen(
            ["git", "push", "--force", self._remote, f"HEAD:refs/heads/{branch}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise RuntimeError(f"git {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout
