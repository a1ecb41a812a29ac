"""One stack in containers for these tests, on free ports; gone at their end with all that it made."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.clients.delivery import Deployable
from stack.compose.compose_stack import ComposeStack, compose_stack
from tests.support.stack.cadence import CADENCE
from tests.support.stack.new_app import new_app


@pytest.fixture(scope="package")
def stack() -> Iterator[ComposeStack]:
    """Runs the stack in containers. Without an engine with Compose, the tests are skipped; in CI they fail."""
    try:
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True, timeout=30)
        subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no Docker Engine with Compose: {error}")
    with tempfile.TemporaryDirectory(prefix="slipway-compose-") as home, compose_stack(Path(home), CADENCE) as running:
        yield running


@pytest.fixture
def make_app(stack: ComposeStack, tmp_path: Path) -> Callable[[str], Deployable]:
    """A new app with the files of examples/notes, without a Dockerfile, and a manifest without steps."""
    return lambda name: new_app(stack, name, tmp_path / name)
