"""Apps of examples/gallery as processes: each goes live, or its push ends with the remedy."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.local.local_stack import LocalStack
from tests.support.gallery import GalleryApp, GalleryRun, chosen

pytestmark = pytest.mark.timeout(900)  # the first test waits until all are pushed
APPS = chosen("process")
NEEDS = {"nginx-procfile": "nginx"}  # programs of the machine that an app runs


@pytest.fixture(scope="module")
def run(stack: LocalStack) -> Iterator[GalleryRun]:
    with tempfile.TemporaryDirectory(prefix="slipway-gallery-") as folder:
        run = GalleryRun(stack, "process", Path(folder))
        run.push_all(app for app in APPS if not missing(app))
        yield run


def missing(app: GalleryApp) -> str:
    """Returns the program that this machine lacks for the app, or an empty text. CI has them all."""
    program = NEEDS.get(app.name, "sh")
    return "" if os.environ.get("CI") == "true" or shutil.which(program) else program


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_app_of_the_gallery(run: GalleryRun, app: GalleryApp) -> None:
    if program := missing(app):
        pytest.skip(f"{program} is not installed")
    run.check(app)
