"""Builds as pages, for people: what the templates are given. No state is changed here."""

from pathlib import Path

from services.build.app import App
from services.build.build import Build
from services.build.build_log import BuildLogs
from shared.pages import templates

TAIL_BYTES = 64 * 1024


class Pages:
    def __init__(self, logs: BuildLogs) -> None:
        self._logs = logs
        self._templates = templates(Path(__file__).parent / "templates")

    def history(self, builds: list[Build], apps: list[App], app: str | None, following: str | None) -> str:
        """`following`: cursor of the next page."""
        page = self._templates.get_template("history.html")
        return page.render(builds=builds, apps=apps, app=app, following=following)

    def build(self, build: Build) -> str:
        """With the last 64 KiB of its log."""
        size = self._logs.size(build.id)
        start = max(0, size - TAIL_BYTES)
        text = self._logs.read(build.id, start, TAIL_BYTES).decode(errors="replace")
        if start:
            text = text.partition("\n")[2]
        return self._templates.get_template("build.html").render(build=build, log=text, size=size, cut=start > 0)
