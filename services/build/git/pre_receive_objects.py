"""Commits that are judged at the door: in the repository, under refs that no client sees or may push.

git keeps what a push brings in a folder of its own until its hook has said yes, and lets nobody point a ref there.
git itself is asked to push from there to the repository, so that they arrive as whole as every push's do. After a
refusal they stay unreachable, like what a forced push leaves.
"""

from pathlib import Path

from services.build.git.repository import GitFailed, Repositories

HIDDEN = "refs/slipway"
DOOR = f"{HIDDEN}/door"
# What it starts sees nothing of our command line, and no hook: those are set where pushes over HTTP are served.
# As for those, a pack stays a pack, and nothing is packed while somebody waits.
_RECEIVE_PACK = "git -c 'safe.directory=*' -c receive.unpackLimit=1 -c receive.autogc=false receive-pack"


class PreReceiveObjects:
    """Methods block: call them in a thread."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    def take_in(self, app: str, commit: str, objects: str) -> None:
        """Keeps the commit, which is in the repository or in git's folder `objects`. May be repeated. Raises GitFailed,
        also for what is no commit."""
        path = self._repositories.path(app)
        variables = {}
        if objects:
            folder = Path(objects)
            if folder.resolve().parent != (path / "objects").resolve():
                raise GitFailed("what the push brought is not where git puts it")
            variables = {"GIT_OBJECT_DIRECTORY": objects, "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(path / "objects")}
        if self._repositories.git(app, "cat-file", "-t", commit, **variables).strip() != "commit":
            raise GitFailed(f"{commit[:10]} is no commit, so it cannot be a branch's")
        options = ["--quiet", "--force", "--no-verify", f"--receive-pack={_RECEIVE_PACK}"]
        self._repositories.git(app, "push", *options, str(path), f"{commit}:{DOOR}/{commit}", **variables)

    def kept(self) -> set[tuple[str, str]]:
        """App and commit of all that are kept."""
        return {
            (app, commit)
            for app in self._repositories.apps()
            for commit in self._repositories.git(app, "for-each-ref", "--format=%(objectname)", DOOR).split()
        }

    def let_go(self, app: str, commit: str) -> None:
        """May be repeated."""
        if self._repositories.exists(app):
            self._repositories.git(app, "update-ref", "-d", f"{DOOR}/{commit}")
