"""The bare git repositories, `<folder>/<app>.git`. Methods block for some milliseconds: call them in a thread."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SUBMODULE = "160000"
TIMEOUT_S = 120
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it in every repository
# Nothing of the machine's own git configuration reaches the platform's repositories.
GIT_ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}
# The checkout holds the commit's very bytes, whatever its .gitattributes say.
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"


class GitFailed(RuntimeError):
    """git answered with an error; the message is git's."""


@dataclass(frozen=True)
class TrackedFile:
    path: str
    mode: str
    blob: str


class Repositories:
    def __init__(self, folder: Path, path_variable: str) -> None:
        self.folder = folder
        self._environment = {**GIT_ENVIRONMENT, "PATH": path_variable}

    def path(self, app: str) -> Path:
        return self.folder / f"{app}.git"

    def apps(self) -> list[str]:
        """Names of the apps that have a repository."""
        return sorted(path.name.removesuffix(".git") for path in self.folder.glob("*.git"))

    def exists(self, app: str) -> bool:
        return (self.path(app) / "HEAD").exists()

    def ensure(self, app: str) -> None:
        """Makes the bare repository, whole or not at all."""
        path = self.path(app)
        if self.exists(app):
            return
        fresh = self.folder / f".{app}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run("init", "--quiet", "--bare", "--template=", str(fresh))
        (fresh / "info").mkdir()
        (fresh / "info" / "attributes").write_text(ATTRIBUTES)
        fresh.rename(path)

    def delete(self, app: str) -> None:
        shutil.rmtree(self.path(app), ignore_errors=True)

    def heads(self, app: str) -> dict[str, str]:
        """Branch → commit. HEAD of a repository that has only just got a branch is pointed to one, or a clone of it
        would check out nothing."""
        if not self.exists(app):
            return {}
        lines = self._git(app, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads").splitlines()
        heads = {branch: commit for commit, _, branch in (line.partition(" ") for line in lines)}
        current = (self.path(app) / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")
        if heads and current not in heads:
            self._git(app, "symbolic-ref", "HEAD", f"refs/heads/{next(iter(heads))}")
        return heads

    def commit(self, app: str, name: str) -> str | None:
        """The full id of a commit (a prefix of one serves), or None if there is none."""
        try:
            return self._git(app, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
        except GitFailed:
            return None

    def committed_at(self, app: str, commit: str) -> datetime:
        """In UTC."""
        seconds = self._git(app, "show", "--no-patch", "--format=%ct", commit)
        return datetime.fromtimestamp(int(seconds), UTC)

    def message(self, app: str, commit: str) -> str:
        """Of the commit, whole."""
        return self._git(app, "show", "--no-patch", "--format=%B", commit)

    def tracked(self, app: str, commit: str) -> list[TrackedFile]:
        """Every file, link and submodule of the commit."""
        entries = self._git(app, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")[:-1]
        split = (entry.partition("\t") for entry in entries)
        return [TrackedFile(path, mode=fields.split()[0], blob=fields.split()[2]) for fields, _, path in split]

    def read(self, app: str, file: TrackedFile) -> bytes:
        return self._run("--git-dir", str(self.path(app)), "cat-file", "blob", file.blob)

    def size(self, app: str, file: TrackedFile) -> int:
        """In bytes."""
        return int(self._git(app, "cat-file", "-s", file.blob))

    def diff(self, app: str, base: str | None, commit: str) -> str:
        """What changed since `base`, without the lines around it; with None, or one that is gone, everything. Every
        file counts as text: an attribute of the commit must not hide its lines."""
        since = base if base is not None and self.commit(app, base) else EMPTY_TREE
        options = ["--unified=0", "--text", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"]
        return self._git(app, "diff", *options, "--src-prefix=a/", "--dst-prefix=b/", since, commit, "--")

    def checkout(self, app: str, commit: str, folder: Path) -> None:
        """Writes the commit's files to `folder`, which is made anew; no `.git` in it. Submodules stay empty."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        index = folder.with_name(f"{folder.name}.index")
        index.unlink(missing_ok=True)
        try:
            for command in (["read-tree", commit], ["checkout-index", "--all", "--force"]):
                self._git(app, *command, cwd=folder, GIT_INDEX_FILE=str(index), GIT_WORK_TREE=str(folder))
        finally:
            index.unlink(missing_ok=True)

    def _git(self, app: str, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
        output = self._run("--git-dir", str(self.path(app)), *arguments, cwd=cwd, **variables)
        return output.decode(errors="surrogateescape")

    def _run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> bytes:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *arguments],
            cwd=cwd,
            env={**self._environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            raise GitFailed(done.stderr.decode(errors="replace").strip() or f"git ended with {done.returncode}")
        return done.stdout
