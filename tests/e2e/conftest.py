"""One real stack for the end-to-end tests: Redis, Envoy, five services, apps as processes, on free ports."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.clients.delivery import Deployable
from stack.local.local_stack import LocalStack, local_stack
from tests.support.stack.cadence import CADENCE
from tests.support.stack.new_app import new_app


@pytest.fixture(scope="package")
def stack() -> Iterator[LocalStack]:
    # Not pytest's tmp_path: the home holds unix sockets, whose paths must be short.
    with (
        tempfile.TemporaryDirectory(prefix="slipway-e2e-") as home,
        local_stack(Path(home), variables=CADENCE) as running,
    ):
        yield running


@pytest.fixture
def make_app(stack: LocalStack, tmp_path: Path) -> Callable[[str], Deployable]:
    """A new app with the files of examples/notes and a manifest without steps, so that its builds are quick."""

    return lambda name: new_app(stack, name, tmp_path / name)
