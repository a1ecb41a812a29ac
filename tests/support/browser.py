"""A real browser that looks at the pages: what it complains of, and whether a page fits its screen."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
CHANGED = "net::ERR_NETWORK_CHANGED"
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
Scheme = Literal["light", "dark"]


def chromium() -> str | None:
    """Path of the browser that the machine has: `CHROMIUM` names it, or it is on PATH."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """Headless Chromium for the length of the block."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield running
        finally:
            running.close()


@dataclass
class Window:
    """A page and what its console said, its scripts threw, and its requests missed."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def go_to(self, url: str) -> int:
        """The status of the answer. Forgets what the page before complained of; a new page costs a process."""
        self.page.goto("about:blank")
        self.complaints.clear()
        answer = self.page.goto(url)
        assert answer is not None
        return answer.status

    def faults(self) -> list[str]:
        """The complaints that are the page's own fault. When a network of containers comes or goes on this machine,
        Chromium ends the requests that are under way.
        """
        if not any(CHANGED in each for each in self.complaints):
            return self.complaints
        return [each for each in self.complaints if CHANGED not in each and not each.startswith("htmx:")]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its screen."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def shoot(self, folder: Path | None, name: str) -> None:
        """A picture of the whole page, where a folder for pictures is given."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=folder / f"{name}.png", full_page=True)


def wait_until(page: Page, expression: str, timeout_s: float = 10.0) -> None:
    """Waits until the expression holds in the page. Playwright's own way evaluates it by `eval`, which pages forbid."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {expression}"
        page.wait_for_timeout(50)


@contextmanager
def profile(
    running: Browser, token: str, screen: str, scheme: Scheme, *, scripts: bool = True
) -> Iterator[BrowserContext]:
    """Yields what windows share: screen, cache, and the login with the token as the password of HTTP Basic."""
    width, height = SCREENS[screen]
    context = running.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        http_credentials={"username": "slipway", "password": token},
        java_script_enabled=scripts,
        has_touch=screen == "phone",
    )
    try:
        yield context
    finally:
        context.close()


@contextmanager
def window(context: BrowserContext) -> Iterator[Window]:
    opened = Window(context.new_page())
    page, complaints = opened.page, opened.complaints
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "response",
        lambda answer: (
            complaints.append(f"{answer.status} {answer.url}")
            if answer.status >= 400 and answer.status != 401
            else None
        ),
    )
    try:
        yield opened
    finally:
        page.close()
