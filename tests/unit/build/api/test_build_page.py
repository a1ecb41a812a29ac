"""The page of a build."""

from pathlib import Path

from services.build.api.page_views import BuildPages
from services.build.builds.build import Inferred
from services.build.config import Settings
from services.build.logs.build_log import BuildLogs
from tests.support.build.builds import build


def test_it_shows_what_was_inferred_and_from_what(tmp_path: Path) -> None:
    pages = BuildPages(BuildLogs(tmp_path), Settings(home=tmp_path))
    inferred = [
        Inferred(key="run", value="npm start", origin="the script start: <b>"),
        Inferred(key="steps", value="npm", origin=""),
    ]
    page = pages.build(build(inferred=inferred, root="services/web"), "localhost")
    assert (
        "<li>run: <code>npm start</code> from the script start: &lt;b&gt;</li><li>steps: <code>npm</code></li>" in page
    )
    assert "Built from the folder <code>services/web</code>." in page
    assert "Inferred" not in pages.build(build(), "localhost")
