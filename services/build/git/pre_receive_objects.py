"""Stores the commits of pushes that wait for a verdict, in the repository under refs that clients can neither see nor
push. Until the hook pre-receive ends, git keeps the objects of a push in a quarantine object directory, to which no ref
may point. Therefore git itself is made to push the commit from there into the repository. After a refusal, the objects
stay there without a ref until git's garbage collection removes them.
"""

from pathlib import Path

from services.build.git.repository import GitFailed, Repositories

HIDDEN = "refs/slipway"
PRE_RECEIVE = f"{HIDDEN}/door"
# Its child processes get neither our command line nor hooks; both are set where pushes over HTTP are served.
# As for pushes over HTTP, a pack stays a pack, and no push has to wait for repacking.
_RECEIVE_PACK = "git -c 'safe.directory=*' -c receive.unpackLimit=1 -c receive.autogc=false receive-pack"


class PreReceiveObjects:
    """Adds, lists and removes the hidden refs of commits whose push waits for a build. Methods block, so callers should
    run them by `in_thread`.
    """

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self.in_thread = repositories.in_thread

    def add(self, app: str, commit: str, objects: str) -> None:
        """Sets a hidden ref to the commit. `objects` is git's quarantine object directory, from which the commit is
        first copied into the repository; it is empty if the push brings no new objects. Idempotent. Raises GitFailed,
        also if `commit` is not a commit.
        """
        path = self._repositories.path(app)
        variables = {}
        if objects:
            folder = Path(objects)
            if folder.resolve().parent != (path / "objects").resolve():
                raise GitFailed("the objects of the push are not in git's quarantine folder")
            variables = {"GIT_OBJECT_DIRECTORY": objects, "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(path / "objects")}
        if self._repositories.git(app, "cat-file", "-t", commit, **variables).strip() != "commit":
            raise GitFailed(f"{commit[:10]} is no commit, so it cannot be a branch's")
        options = ["--quiet", "--force", "--no-verify", f"--receive-pack={_RECEIVE_PACK}"]
        self._repositories.git(app, "push", *options, str(path), f"{commit}:{PRE_RECEIVE}/{commit}", **variables)

    def kept(self) -> set[tuple[str, str]]:
        """Returns (app, commit) for every ref that `add` has set and `remove` has not removed."""
        return {
            (app, commit)
            for app in self._repositories.apps()
            for commit in self._repositories.git(app, "for-each-ref", "--format=%(objectname)", PRE_RECEIVE).split()
        }

    def remove(self, app: str, commit: str) -> None:
        """Removes the commit's ref. Idempotent."""
        if self._repositories.exists(app):
            self._repositories.git(app, "update-ref", "-d", f"{PRE_RECEIVE}/{commit}")
