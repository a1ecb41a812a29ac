"""Apps of examples/gallery in containers: each goes live, or its push ends with the remedy."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.compose.compose_stack import ComposeStack
from tests.support.gallery import GalleryApp, GalleryRun, chosen

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]  # the first test waits until all are pushed

APPS = chosen("docker")


@pytest.fixture(scope="module")
def run(stack: ComposeStack) -> Iterator[GalleryRun]:
    with tempfile.TemporaryDirectory(prefix="slipway-gallery-") as folder:
        run = GalleryRun(stack, "docker", Path(folder))
        run.push_all(APPS)
        yield run


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_app_of_the_gallery(run: GalleryRun, app: GalleryApp) -> None:
    run.check(app)
