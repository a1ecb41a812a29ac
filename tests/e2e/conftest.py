"""One real stack for the end-to-end tests: Redis, Envoy, five services, apps as processes, on free ports."""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest

from stack.clients.delivery import Deployable
from stack.local.local_stack import LocalStack, local_stack
from tests.support.build.executors import share_virtualenv
from tests.support.stack.cadence import CADENCE
from tests.support.stack.new_app import new_app

PIP = {"PIP_NO_COMPILE": "1"}  # to compile all that is installed takes longer than what the apps import


@contextlib.contextmanager
def new_stack() -> Iterator[LocalStack]:
    home = tempfile.mkdtemp(prefix="slipway-e2e-")  # not in pytest's tmp_path: the paths of its sockets must be short
    share_virtualenv(Path(home) / "cache")
    try:
        with local_stack(Path(home), variables={**CADENCE, **PIP}) as running:
            yield running
    finally:
        # To remove tens of thousands of small files takes half a minute, for which no test needs to wait.
        command = ["sh", "-c", 'rm -rf "$0" &', home]
        subprocess.run(command, check=True, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


@pytest.fixture(scope="package")
def stack() -> Iterator[LocalStack]:
    with new_stack() as running:
        yield running


@pytest.fixture
def make_app(stack: LocalStack, tmp_path: Path) -> Callable[[str], Deployable]:
    """A new app with the files of examples/notes and a manifest without steps, so that its builds are quick."""

    return lambda name: new_app(stack, name, tmp_path / name)
