"""Builds as pages, for people: what the templates are given. No state is changed here."""

from pathlib import Path

from services.build.app import App
from services.build.build import Build
from services.build.build_log import BuildLogs
from services.build.gate import number
from shared.config import SharedSettings
from shared.pages import Templates

TAIL_BYTES = 64 * 1024


class Pages:
    """`hostname`: that of the request's URL, under which the reader finds the other services' pages too."""

    def __init__(self, logs: BuildLogs, settings: SharedSettings) -> None:
        self._logs = logs
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def history(
        self, builds: list[Build], apps: list[App], app: str | None, following: str | None, hostname: str | None
    ) -> str:
        """`following`: cursor of the next page."""
        return self._templates.render(
            "history.html", here="Builds", hostname=hostname, builds=builds, apps=apps, app=app, following=following
        )

    def build(self, build: Build, hostname: str | None) -> str:
        """With the last 64 KiB of its log."""
        size = self._logs.size(build.id)
        start = max(0, size - TAIL_BYTES)
        text = self._logs.read(build.id, start, TAIL_BYTES).decode(errors="replace")
        if start:
            text = text.partition("\n")[2]
        return self._templates.render(
            "build.html",
            here="Builds",
            hostname=hostname,
            build=build,
            log=text,
            size=size,
            cut=start > 0,
            number=number,
        )
