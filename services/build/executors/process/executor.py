"""Runs steps as processes of this machine, as the user that the platform runs as. Builds are not isolated from each
other.
"""

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from services.build.executors.executor import BRANCH, ExecutorObjects, Order, Outcome, SealRequest, Unsealed, Workspace
from services.build.executors.process.relocation import make_relocatable
from services.build.executors.process.service_process import ServiceProcesses
from services.build.executors.process.special_file import special_file
from services.build.executors.process.venv_template import VENV, VenvTemplate, names_below
from services.build.system.command import drained, piped, uncancelled
from services.build.system.patience import patiently
from services.build.system.pipe import Output
from services.build.system.process_tree import ProcessTree
from services.build.system.safe_remove import remove
from services.build.system.stop import Stop
from services.build.system.thread_pool import ThreadPool
from shared.host.artifact_folder import ArtifactUnfit, check_artifact
from shared.host.directory_digest import directory_digest
from shared.host.exit_words import signal_name
from shared.host.process_search import marked_pids
from shared.host.shortage import shortage
from shared.models import Artifact

GRACE_S = 5.0
# Environment variables of all processes of a step: the build's folder (unique on the machine), and the step's name.
MARKER, STEP = "SLIPWAY_BUILD_FOLDER", "SLIPWAY_BUILD_STEP"
PREPARE_TIMEOUT_S = 120.0
NODE_S = 10.0  # time limit for `node --version`
THREADS = 8  # threads that read or remove whole folders
VIRTUALENV = "virtualenv"  # cache that all apps share; each `.venv` has links into it
TEMPLATES = "templates"  # folder in it for templates of `.venv`
# Variables of the platform's environment that steps get: how packages are fetched and how text is encoded.
_PASSED_ON = {"PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}
_PASSED_ON_PREFIXES = ("LC_", "PIP_", "VIRTUALENV_", "NPM_CONFIG_")
_PASSED_ON_SUFFIX = "_PROXY"


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns those variables of `environ`, the platform's environment, that steps get. The platform's token is not
    among them.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON
        or name.upper().startswith(_PASSED_ON_PREFIXES)
        or name.upper().endswith(_PASSED_ON_SUFFIX)
    }


class ProcessExecutor:
    """Runs steps as processes in the checkout, which becomes the artifact. `environment` is the result of `passed_on`.
    The folder `home` holds the checkouts and, in its folder `cache`, a folder of caches for each app. A process that
    ignores SIGTERM is killed after `grace_s` seconds.
    """

    builds_images = False

    def __init__(self, environment: Mapping[str, str], home: Path, *, grace_s: float = GRACE_S) -> None:
        self._environment = dict(environment)
        self._home = home
        self._caches = home / "cache"
        self._grace_s = grace_s
        self._in_thread = ThreadPool(THREADS, "folders")
        self._template = VenvTemplate(self._caches / VIRTUALENV / TEMPLATES, environment)
        self._present: dict[str, str] | None = None
        self._fresh: dict[str, frozenset[str]] = {}  # build → content of its `.venv` before its steps

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Creates `.venv` as a copy of one that an earlier build made (decision 46), or else by virtualenv. pip and
        setuptools in it are links to read-only copies that all builds share (decision 29). A `.venv` that is part of
        the commit is removed first, as its links could lead writes elsewhere.
        """
        venv = workspace.folder / VENV
        await self._in_thread(remove, venv)
        workspace.scratch.mkdir(parents=True, exist_ok=True)
        made = Outcome(0, skipped=0)
        if not await self._in_thread(self._template.copy_to, venv):
            made = await self._make_venv(workspace, venv, output, stop)
        self._fresh[workspace.build] = await self._in_thread(names_below, venv)
        return made

    async def _make_venv(self, workspace: Workspace, venv: Path, output: Output, stop: Stop) -> Outcome:
        program = [sys.executable, "-I", "-m", "virtualenv", "--no-download", "--no-periodic-update", "--quiet"]
        command = [*program, "--symlink-app-data", "--app-data", str(self._caches / VIRTUALENV), str(venv)]
        environment = self._step_environment(workspace)
        made = await self._run_commands(workspace, [("", command)], environment, PREPARE_TIMEOUT_S, output, stop)
        if made.exit_code == 0:
            await self._in_thread(self._template.take, venv)
        return made

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        commands = [(f"$ {command}\n", ["sh", "-e", "-c", command]) for command in order.commands]
        own = self._step_environment(workspace)
        marks = {MARKER: own[MARKER], STEP: own[STEP]}
        services = ServiceProcesses(workspace, own, marks, output, grace_s=self._grace_s)
        try:
            if reason := await services.start(order.services, stop):
                return Outcome(None, reason)
            environment = {**own, **services.addresses, **order.environment, **marks}
            outcome = await self._run_commands(workspace, commands, environment, order.timeout_s, output, stop)
            if workspace.folder.is_symlink():  # the target of a link must be neither read nor sealed
                return Outcome(None, "replaced its checkout by a link")
            return outcome
        finally:
            await uncancelled(self._end(services.trees, own[STEP]))
            await services.close()

    async def misfit(self, workspace: Workspace) -> str | None:
        special = None
        with contextlib.suppress(OSError, RecursionError):  # what cannot be read whole is refused by `seal`
            special = await self._in_thread(special_file, workspace.folder)
        if special is None:
            return None
        kind, path = special
        return (
            f"its steps left {path!a}, a {kind}, which no copy of an artifact can hold; remove it at the end of the "
            "step that makes it"
        )

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        """Returns the checkout folder, which stays in place, as an artifact with the digest of its content. It first
        removes `.venv` if the commit does not use Python and no step has added to it; otherwise it makes the programs
        in `.venv` independent of its path. Raises Unsealed if the folder cannot be read.
        """
        venv, fresh = workspace.folder / VENV, self._fresh.get(workspace.build)
        await self.discard(workspace)
        if not delivery.uses_python and fresh is not None and await self._in_thread(names_below, venv) == fresh:
            await self._in_thread(remove, venv)
        try:
            await self._in_thread(make_relocatable, venv, self._caches)
            digest = await self._in_thread(directory_digest, workspace.folder)
        except (OSError, RecursionError) as error:
            if shortage(error) is not None:
                raise
            raise Unsealed(
                f"its folder cannot be read completely ({type(error).__name__}); see what its steps left there"
            ) from error
        ref = str(workspace.folder.relative_to(self._home))
        return Artifact(kind="directory", ref=ref, digest=digest, built_in=str(workspace.folder))

    async def has(self, artifact: Artifact) -> bool:
        try:
            await self._in_thread(check_artifact, self._home, artifact)
            return True
        except ArtifactUnfit:
            return False
        except OSError as error:
            if shortage(error) is not None:
                raise  # which does not say that it is gone
            return False

    async def present(self) -> dict[str, str]:
        if self._present is None:
            self._present = await self._in_thread(_versions, self._environment)
        return self._present

    async def exposed_ports(self, artifact: Artifact) -> list[int]:
        return []

    async def images(self) -> None:
        return None

    async def end_leftovers(self, workspace: Workspace) -> int:
        return await self._end_marked(MARKER, str(workspace.folder))

    async def discard(self, workspace: Workspace) -> None:
        self._fresh.pop(workspace.build, None)
        await self._in_thread(remove, workspace.scratch)

    async def objects(self) -> ExecutorObjects:
        """Returns the apps that have a cache folder. It names no builds: all that remains of a build is its checkout
        folder, which the build service removes.
        """
        folders = await asyncio.to_thread(lambda: list(self._caches.glob("*/")))
        return ExecutorObjects(frozenset(), frozenset(folder.name for folder in folders) - {VIRTUALENV})

    async def remove(self, objects: ExecutorObjects) -> None:
        for app in objects.apps:
            await self._in_thread(remove, self._caches / app)

    async def check(self) -> str | None:
        return None

    async def _run_commands(
        self,
        workspace: Workspace,
        commands: list[tuple[str, list[str]]],
        environment: dict[str, str],
        timeout_s: float,
        output: Output,
        stop: Stop,
    ) -> Outcome:
        deadline = time.monotonic() + timeout_s
        trees: list[ProcessTree] = []
        async with piped(output) as end_of_pipe:
            try:
                for place, (shown, command) in enumerate(commands, 1):
                    await drained(end_of_pipe)  # waits for the output of the command before
                    output(shown.encode())
                    make = partial(ProcessTree, command, workspace.folder, environment, end_of_pipe, self._grace_s)
                    tree = await patiently(make, output, stop)
                    trees.append(tree)  # background processes of a command run until the end of the step
                    if reason := await tree.wait(deadline, timeout_s, stop):
                        return Outcome(None, reason)
                    if code := tree.poll():
                        return Outcome(code, _exit_reason(code), skipped=len(commands) - place)
                return Outcome(0, skipped=0)
            except OSError as error:  # the step before may have removed the folder
                if shortage(error) is not None:
                    raise
                return Outcome(None, f"could not be started: {error.strerror}")
            finally:
                await uncancelled(self._end(trees, environment[STEP]))

    async def _end(self, trees: Sequence[ProcessTree], step: str) -> None:
        """Ends the processes in `trees`. If a step has killed the first process of its tree, finds the remaining ones
        by the variable with the value `step` in their environment, and ends them.
        """
        await asyncio.gather(*(tree.close() for tree in trees))
        if any(tree.lost for tree in trees):
            await self._end_marked(STEP, step)

    def _step_environment(self, workspace: Workspace) -> dict[str, str]:
        folder, cache = workspace.folder, self._caches / workspace.app
        path = [str(folder / VENV / "bin"), str(folder / "node_modules" / ".bin"), self._environment.get("PATH", "")]
        return {
            **self._environment,
            "PATH": os.pathsep.join(path),
            "VIRTUAL_ENV": str(folder / VENV),
            "CI": "true",
            "CI_COMMIT_SHA": workspace.commit,
            BRANCH: workspace.branch or "",
            "CI_PIPELINE_NUMBER": str(workspace.number),
            "SLIPWAY_BUILD_ID": workspace.build,
            "GIT_CEILING_DIRECTORIES": str(folder.parent.parent),  # the home may lie inside another repository
            "HOME": str(workspace.scratch),
            "TMPDIR": str(workspace.scratch),
            "PIP_CACHE_DIR": str(cache / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "npm_config_cache": str(cache / "npm"),
            "PYTHONUNBUFFERED": "1",  # output of Python programs is shown as it is printed
            MARKER: str(folder),
            STEP: uuid.uuid4().hex,
        }

    async def _end_marked(self, mark: str, value: str) -> int:
        """Ends every process in whose environment the variable `mark` has the value `value`: by SIGTERM, then SIGKILL
        after the grace period. Returns the number of these processes once all are gone."""
        seen: set[int] = set()
        deadline = time.monotonic() + self._grace_s
        wait_s = 0.01
        while pids := await asyncio.to_thread(marked_pids, mark, value):
            late = time.monotonic() > deadline
            for pid in pids:
                if late or pid not in seen:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                seen.add(pid)
            await asyncio.sleep(wait_s)
            wait_s = min(0.2, wait_s * 2)
        return len(seen)


def _versions(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns language → version of Python, with which each `.venv` is made, and of the machine's Node, if it has one.
    Blocks.
    """
    found = {"python": platform.python_version()}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [shutil.which("node", path=environment.get("PATH")) or "node", "--version"]
        said = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=NODE_S, check=True
        )
        found["node"] = said.stdout.strip().removeprefix("v")
    return found


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"was ended by {signal_name(-code)}"
    return f"exited with {code}"
