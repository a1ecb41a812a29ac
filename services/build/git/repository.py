"""Manages the bare git repositories `<folder>/<app>.git`. Methods block, so callers should use
`Repositories.in_thread`."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from services.build.git.ref_stamp import RefStamp, ref_stamp
from services.build.git.tree_limits import SUBMODULE as SUBMODULE
from services.build.git.tree_limits import TrackedFile as TrackedFile
from services.build.git.tree_limits import TreeLimits, files_of
from services.build.system.safe_remove import remove
from services.build.system.thread_pool import ThreadPool

TIMEOUT_S = 120.0
THREADS = 16
GATED = "gated"  # file in the repository: its hook must ask the service before git accepts a push
NOT_FOUND = 1  # exit code of `git grep` without a match
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows this object in every repository
# Nothing of the machine's own git configuration reaches the platform's repositories.
GIT_ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}
# The checkout has exactly the commit's bytes, whatever its .gitattributes say.
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
# Most bytes that the service reads from git: git may unpack a thousandfold.
LARGEST_ANSWER_BYTES = 64 * 2**20
LONGEST_MESSAGE_BYTES = 2**16
CHUNK = 64 * 1024
# No name of a commit is `.git` to any system, whatever was let in.
_CONFIG = {"safe.directory": "*", "core.protectHFS": "true", "core.protectNTFS": "true"}


def config_variables(config: Mapping[str, str]) -> dict[str, str]:
    """Returns environment variables that set this configuration for git and its child processes."""
    numbered = list(enumerate(config.items()))
    keys = {f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in numbered}
    values = {f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in numbered}
    return {"GIT_CONFIG_COUNT": str(len(numbered)), **keys, **values}


class GitFailed(RuntimeError):
    """Reports that git ended with an error; the message is git's."""


class GitTooSlow(GitFailed):
    """Reports that git was killed because it exceeded its time limit, which the message names."""


class AnswerTooLarge(GitFailed):
    """Reports that git's output exceeds the limit, which the message names."""


class Repositories:
    """Creates, reads, checks out and deletes the repositories by running git. `path_variable` is the PATH for git.
    `in_thread` runs a method, or other blocking work on checkouts, in a thread pool of its own."""

    def __init__(
        self, folder: Path, path_variable: str, limits: TreeLimits | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.folder = folder
        self._timeout_s = timeout_s
        self.in_thread = ThreadPool(THREADS, "git")
        self._limits = limits or TreeLimits()
        self._environment = {**GIT_ENVIRONMENT, "PATH": path_variable}

    def path(self, app: str) -> Path:
        return self.folder / f"{app}.git"

    def apps(self) -> list[str]:
        """Returns the names of the apps that have a repository, sorted."""
        return sorted(path.name.removesuffix(".git") for path in self.folder.glob("*.git"))

    def ref_stamps(self) -> dict[str, RefStamp | None]:
        """Returns app → stamp of the state of its branches; None if that cannot be read. It does not run git."""
        stamps: dict[str, RefStamp | None] = {}
        for app in self.apps():
            stamps[app] = None
            with contextlib.suppress(OSError):
                stamps[app] = ref_stamp(self.path(app))
        return stamps

    def exists(self, app: str) -> bool:
        return (self.path(app) / "HEAD").exists()

    def ensure(self, app: str, *, gated: bool = False) -> None:
        """Creates the app's bare repository if there is none. If `gated`, git asks the service before it accepts a
        push. Other processes see the repository complete or not at all."""
        path = self.path(app)
        if self.exists(app):
            return
        fresh = self.folder / f".{app}.fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run("init", "--quiet", "--bare", "--template=", str(fresh))
        (fresh / "info").mkdir()
        (fresh / "info" / "attributes").write_text(ATTRIBUTES)
        if gated:
            (fresh / GATED).touch()
        if path.exists() and not self.exists(app):  # made by a git process that outlived the app's deletion
            remove(path)
        fresh.rename(path)

    def gate(self, app: str, gated: bool) -> None:
        """Turns on or off that git asks the service before it accepts a push to the app (the pre-receive gate). Creates
        the repository if there is none. Idempotent."""
        self.ensure(app, gated=gated)
        if gated:
            (self.path(app) / GATED).touch()
        else:
            (self.path(app) / GATED).unlink(missing_ok=True)

    def delete(self, app: str) -> None:
        """Deletes the app's repository. It is renamed first, so that others never see a part of it. Idempotent."""
        gone = self.folder / f".{app}.gone"
        remove(gone)
        with contextlib.suppress(FileNotFoundError):
            self.path(app).rename(gone)
        remove(gone)

    def heads(self, app: str) -> dict[str, str]:
        """Returns branch → commit; empty if there is no repository. If HEAD names a branch that does not exist, points
        it to an existing one, so that a clone has files."""
        if not self.exists(app):
            return {}
        lines = self._git(app, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads").splitlines()
        heads = {branch: commit for commit, _, branch in (line.partition(" ") for line in lines)}
        current = (self.path(app) / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")
        if heads and current not in heads:
            self._git(app, "symbolic-ref", "HEAD", f"refs/heads/{next(iter(heads))}")
        return heads

    def commit(self, app: str, name: str) -> str | None:
        """Returns the full id of the commit `name`, which may be an abbreviated id or a ref; None if there is none.
        Raises GitTooSlow after the time limit."""
        try:
            return self._git(app, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
        except GitTooSlow:
            raise
        except GitFailed:
            return None

    def holds(self, app: str, commits: Collection[str]) -> set[str]:
        """Returns those of `commits` (full ids) that the repository holds."""
        answers = self._git(app, "cat-file", "--batch-check", stdin="".join(f"{commit}\n" for commit in commits))
        return {line.split(" ")[0] for line in answers.splitlines() if " commit " in line}

    def committed_at(self, app: str, commit: str) -> datetime:
        """Returns the time at which the commit was made, in UTC."""
        seconds = self._git(app, "log", "--no-walk", "--format=%ct", commit)
        return datetime.fromtimestamp(int(seconds), UTC)

    def message(self, app: str, commit: str) -> str:
        """Returns the first 64 KiB of the commit's message."""
        command = ["--git-dir", str(self.path(app)), "log", "--no-walk", "--format=%B", commit]
        return self._run(*command, first=LONGEST_MESSAGE_BYTES).decode(errors="surrogateescape")

    def tracked(self, app: str, commit: str) -> list[TrackedFile]:
        """Returns every file, link and submodule of the commit, or of a folder of it (`<commit>:<path>`). Raises
        BadTree if these exceed the limits."""
        listing = ["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit]
        with self._started("--git-dir", str(self.path(app)), *listing) as git:
            assert git.stdout is not None
            return files_of(_entries(git.stdout), self._limits)

    def read(self, app: str, file: TrackedFile) -> bytes:
        """Returns the content of a file that `tracked` has returned. Raises AnswerTooLarge if it exceeds 64 MiB."""
        return self._run("--git-dir", str(self.path(app)), "cat-file", "blob", file.blob)

    def mentions(self, app: str, commit: str, *texts: str) -> bool:
        """Returns True if any file of the commit contains one of the texts."""
        patterns = [part for text in texts for part in ("-e", text)]
        search = ["grep", "--quiet", "--text", "--fixed-strings", *patterns, commit]
        with self._started("--git-dir", str(self.path(app)), *search, ok_codes=(0, NOT_FOUND)) as git:
            return git.wait() != NOT_FOUND

    def larger_than(self, size: int, app: str, base: str | None, commit: str) -> set[str]:
        """Returns the paths of the files with more than `size` bytes in `base` or `commit`. If `base` is None or no
        longer exists, it counts as empty. Raises BadTree if a commit exceeds the limits."""
        trees = [self._tree(app, base), commit]
        return {file.path for tree in trees for file in self.tracked(app, tree) if file.size > size}

    def diff(self, app: str, base: str | None, commit: str, without: Collection[str] = ()) -> str:
        """Returns the diff from `base` to `commit`, without context lines. If `base` is None or no longer exists, it
        counts as empty. Every file counts as text, whatever the commit's attributes say. Paths in `without` are left
        out. Raises AnswerTooLarge."""
        options = ["--unified=0", "--text", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"]
        trees = ["--src-prefix=a/", "--dst-prefix=b/", self._tree(app, base), commit]
        paths = [":/", *(f":(top,exclude,literal){path}" for path in sorted(without))]
        return self._git(app, "diff", *options, "--irreversible-delete", *trees, "--", *paths)

    def _tree(self, app: str, base: str | None) -> str:
        return base if base is not None and self.has_tree(app, base) else EMPTY_TREE

    def has_tree(self, app: str, name: str) -> bool:
        """Returns True if `name` is a commit, or a folder of one (`<commit>:<path>`)."""
        try:
            return self._git(app, "cat-file", "-t", name).strip() in ("tree", "commit")
        except GitTooSlow:
            raise
        except GitFailed:
            return False

    def checkout(self, app: str, commit: str, folder: Path) -> None:
        """Writes the commit's files to `folder`, which is emptied first and gets no `.git`. Submodules stay empty."""
        remove(folder)
        folder.mkdir(parents=True)
        index = folder.with_name(f"{folder.name}.index")
        index.unlink(missing_ok=True)
        try:
            for command in (["read-tree", commit], ["checkout-index", "--all", "--force"]):
                self._git(app, *command, cwd=folder, GIT_INDEX_FILE=str(index), GIT_WORK_TREE=str(folder))
        finally:
            index.unlink(missing_ok=True)

    def git(self, app: str, *arguments: str, stdin: str = "", **variables: str) -> str:
        """Runs git on the app's repository, with `variables` in its environment, and returns its output. Raises
        GitFailed if git ends with an error."""
        return self._git(app, *arguments, cwd=None, stdin=stdin, **variables)

    def _git(self, app: str, *arguments: str, cwd: Path | None = None, stdin: str = "", **variables: str) -> str:
        output = self._run("--git-dir", str(self.path(app)), *arguments, cwd=cwd, first=None, stdin=stdin, **variables)
        return output.decode(errors="surrogateescape")

    def _run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        first: int | None = None,
        stdin: str = "",
        **variables: str,
    ) -> bytes:
        """Runs git and returns its output: the first `first` bytes, or the whole output if `first` is None. Raises
        AnswerTooLarge if the whole output is wanted and is larger than 64 MiB.
        """
        with self._started(*arguments, cwd=cwd, ok_codes=(0,), stdin=stdin, **variables) as git:
            assert git.stdout is not None
            limit = first if first is not None else LARGEST_ANSWER_BYTES
            answer = git.stdout.read(limit + 1)
            if len(answer) <= limit:
                return answer
        if first is None:
            raise AnswerTooLarge(f"git's answer is larger than {LARGEST_ANSWER_BYTES // 2**20} MB")
        return answer[:limit]

    @contextlib.contextmanager
    def _started(
        self,
        *arguments: str,
        cwd: Path | None = None,
        ok_codes: Collection[int] = (0,),
        stdin: str = "",
        **variables: str,
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Starts git; the caller reads its output in the block. Raises GitFailed if git's exit code is not in
        `ok_codes`, and GitTooSlow after the time limit. If the caller leaves output unread, git is killed without an
        error."""
        settings = [part for key, value in _CONFIG.items() for part in ("-c", f"{key}={value}")]
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as stdin_file:
            stdin_file.write(stdin.encode())
            stdin_file.seek(0)
            git = subprocess.Popen(
                ["git", *settings, *arguments],
                cwd=cwd,
                env={**self._environment, **variables},
                stdin=stdin_file,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            deadline = time.monotonic() + self._timeout_s
            timer = threading.Timer(self._timeout_s, git.kill)
            timer.start()
            try:
                yield git
                assert git.stdout is not None
                if not git.stdout.read(1) and git.wait() not in ok_codes:
                    errors.seek(0)
                    said = errors.read(LONGEST_MESSAGE_BYTES).decode(errors="replace").strip()
                    if time.monotonic() >= deadline and git.returncode == -signal.SIGKILL:
                        raise GitTooSlow(f"git took longer than its limit of {self._timeout_s:g} s")
                    raise GitFailed(said or f"git ended with {git.returncode}")
            finally:
                timer.cancel()
                git.kill()
                git.communicate()


def _entries(stream: IO[bytes]) -> Iterator[bytes]:
    """Yields the entries of a stream, each of which ends with a NUL byte."""
    rest = b""
    while data := stream.read(CHUNK):
        *whole, rest = (rest + data).split(b"\0")
        yield from whole
