"""Every page in a real browser: light and dark, desktop and phone, with scripts and without."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from shared.config import ServiceName
from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.mail_sink import MailSink, mail_sink
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.e2e.conftest import new_stack
from tests.support.browser import SCREENS, Scheme, Window, browser, chromium, profile, wait_until, window
from tests.support.stack.new_app import new_app

APP = "paged"
FLAG = "paged-feature"
PAGES: dict[str, tuple[ServiceName, str]] = {
    "builds": ("build", "/"),
    "build": ("build", f"/builds/{APP}-1"),
    "failed build": ("build", f"/builds/{APP}-3"),
    "filtered builds": ("build", f"/?app={APP}&state=failure"),
    "log": ("build", f"/builds/{APP}-3/log"),
    "tests": ("build", f"/builds/{APP}-3/tests"),
    "coverage": ("build", f"/builds/{APP}-3/coverage"),
    "findings": ("build", f"/builds/{APP}-3/findings"),
    "source": ("build", f"/builds/{APP}-3/source?file=app.py"),
    "comparison": ("build", f"/builds/{APP}-3/comparison"),
    "canaries": ("proxy", "/"),
    "canary": ("proxy", f"/apps/{APP}/rollout"),
    "instances": ("monitor", "/"),
    "alerts": ("monitor", "/alerts"),
    "analysis": ("monitor", f"/releases/{APP}-r2/analysis"),
    "flags": ("flags", "/"),
    "flag": ("flags", f"/flags/{FLAG}"),
}
Profiles = dict[tuple[str, Scheme], BrowserContext]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
PICTURES = Path(folder) if (folder := os.environ.get("E2E_PICTURES")) else None


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """One with nothing but `app`: with others' apps, that one would not be on the first page of each list."""
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium; .ci/run installs it")
        pytest.skip("there is no Chromium on PATH; install it, or name it in CHROMIUM")
    with browser(path) as running:
        yield running


@pytest.fixture(scope="module")
def profiles(stack: LocalStack, chrome: Browser) -> Iterator[Profiles]:
    """Yields browser profiles by screen and colour scheme."""
    with contextlib.ExitStack() as closing:
        yield {
            (screen, scheme): closing.enter_context(profile(chrome, stack.token, screen, scheme))
            for screen in SCREENS
            for scheme in SCHEMES
        }


@pytest.fixture(scope="module")
def windows(profiles: Profiles) -> Iterator[dict[tuple[str, Scheme], Window]]:
    """Yields a window of each profile, in which one page after the other is looked at."""
    with contextlib.ExitStack() as closing:
        yield {each: closing.enter_context(window(context)) for each, context in profiles.items()}


@pytest.fixture(scope="module")
def scriptless(stack: LocalStack, chrome: Browser) -> Iterator[Window]:
    with profile(chrome, stack.token, "desktop", "light", scripts=False) as context, window(context) as opened:
        yield opened


@pytest.fixture(scope="module")
def app(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployable]:
    """An app that has been through everything: releases, a failed build, an aborted canary, a flag, an alert, mail."""
    with mail_sink() as sink:
        yield _lived_in(new_app(stack, APP, tmp_path_factory.mktemp("paged")), sink)


def _lived_in(app: Deployable, sink: MailSink) -> Deployable:
    repository = app.repository
    manifest = repository.folder / "slipway.yml"
    told = f"notify: ['{sink.url('team@example.com')}']"
    manifest.write_text(f"app: {APP}\n{told}\nrun: {{command: python app.py, health: /up}}\n")
    good = repository.commit("production")
    app.deliver(Environment.PRODUCTION)
    (repository.folder / "VERSION").write_text("2")
    repository.replace("notes.py", "FAIL_SHARE = 0.0", "FAIL_SHARE = 1.0")
    repository.commit("a canary that answers 500")
    with Load(app.public, rate=60, host=app.host, limit_s=60):
        app.repository.push("dev").finish()
        wait_for(lambda: app.rollout()["state"] == "aborted", "the canary aborted", 30)
    repository.go_back_to(good)
    step = "{name: test, stage: test, commands: ['echo no; exit 1']}"
    manifest.write_text(f"app: {APP}\n{told}\nsteps: [{step}]\nrun: {{command: python app.py, health: /up}}\n")
    repository.commit("a step that fails")
    repository.push("release").finish()
    variants = {"on": True, "off": False}
    app.call("flags", "PUT", f"/flags/{FLAG}", {"state": "ENABLED", "variants": variants, "defaultVariant": "off"})
    wait_for(lambda: len(app.call("monitor", "GET", "/instances")["items"]) > 0, "samples", 15)
    sink.wait_for(lambda mails: len(mails) == 2, 15)
    return app


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen_and_nothing_complains(
    stack: LocalStack, app: Deployable, windows: dict[tuple[str, Scheme], Window], name: str
) -> None:
    service, path = PAGES[name]
    for opened in windows.values():
        assert opened.go_to(stack.settings.url(service) + path) == 200
    opened.page.wait_for_timeout(500)  # for what scripts do afterwards
    for (screen, scheme), opened in windows.items():
        opened.shoot(PICTURES, f"{name.replace(' ', '-')}-{screen}-{scheme}")
        assert opened.faults() == [], (screen, scheme)
        assert opened.overflow() == 0, (screen, scheme)
        assert opened.page.title().endswith("· Slipway")
        assert opened.page.locator("h1").count() == 1
        assert opened.page.locator("header nav a[aria-current=page]").count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_page_tells_the_same_without_scripts(
    stack: LocalStack, app: Deployable, scriptless: Window, name: str
) -> None:
    service, path = PAGES[name]
    scriptless.go_to(stack.settings.url(service) + path)
    words = scriptless.page.locator("main").inner_text()
    assert FLAG in words if service == "flags" else APP in words


@pytest.mark.smoke
def test_the_navigation_leads_to_every_page(stack: LocalStack, app: Deployable, profiles: Profiles) -> None:
    with window(profiles["desktop", "light"]) as opened:
        opened.page.goto(stack.settings.url("build"))
        titles = opened.page.locator("header nav a").all_inner_texts()
        for title in titles[:-1]:
            opened.page.locator("header nav").get_by_role("link", name=title, exact=True).click()
            opened.page.wait_for_load_state("domcontentloaded")
            assert opened.page.locator("header nav a[aria-current=page]").inner_text() == title
        assert opened.faults() == []


@pytest.mark.smoke
def test_a_flag_is_switched_by_a_click(stack: LocalStack, app: Deployable, profiles: Profiles) -> None:
    def served() -> str:
        flag = app.call("flags", "GET", f"/flags/{FLAG}")
        return str(flag["defaultVariant"])

    with window(profiles["desktop", "light"]) as opened:
        opened.page.goto(stack.settings.url("flags"))
        button = opened.page.get_by_role("button", name=f"{FLAG}", exact=False).filter(has_text="on").first
        button.click()
        wait_for(lambda: served() == "on", "the flag on", 5)
        assert opened.faults() == []


def test_charts_are_drawn_of_what_runs(stack: LocalStack, app: Deployable, profiles: Profiles) -> None:
    with window(profiles["desktop", "dark"]) as opened:
        opened.page.goto(stack.settings.url("monitor"))
        opened.page.wait_for_selector("figure[data-chart] canvas", timeout=10_000)
        legend = opened.page.locator("figure[data-chart]").first.inner_text()
        assert "memory" in legend
        assert "limit" in legend


def test_all_figures_come_anew_with_one_request_and_charts_stay(
    stack: LocalStack, app: Deployable, profiles: Profiles
) -> None:
    with window(profiles["desktop", "light"]) as opened:
        opened.page.goto(stack.settings.url("monitor"))
        wait_until(opened.page, "document.querySelectorAll('figure[data-chart] canvas').length >= 2")
        assert opened.page.locator("main [hx-trigger]").count() == 1, "however many environments there are"
        opened.page.evaluate("for (const e of document.querySelectorAll('[id^=figures-], canvas')) e.dataset.old = 1")
        asked: list[str] = []
        opened.page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/") else None)
        wait_until(opened.page, "!document.querySelector('[id^=figures-][data-old]')")
        assert len(asked) == 1
        assert opened.page.locator("canvas[data-old]").count() >= 2
        assert opened.faults() == []


def test_nothing_of_a_table_is_out_of_sight_on_a_desktop(
    stack: LocalStack, app: Deployable, profiles: Profiles
) -> None:
    with window(profiles["desktop", "light"]) as opened:
        for service, path in PAGES.values():
            opened.page.goto(stack.settings.url(service) + path)
            hidden = opened.page.evaluate(
                "Math.max(0, ...[...document.querySelectorAll('.wide')].map(e => e.scrollWidth - e.clientWidth))"
            )
            assert hidden == 0, path


def test_a_log_is_followed_to_its_end(stack: LocalStack, app: Deployable, profiles: Profiles) -> None:
    lines = "for n in $(seq 60); do echo line $n of the log; sleep 0.05; done"
    manifest = (
        f"app: {APP}\nsteps: [{{name: talk, commands: ['{lines}', 'exit 1']}}]\nrun: {{command: python app.py}}\n"
    )
    (app.repository.folder / "slipway.yml").write_text(manifest)
    app.repository.commit("a talkative step")
    push = app.repository.push("release")
    wait_for(lambda: app.call("build", "GET", f"/apps/{APP}/builds")["items"][0]["commit"] == push.commit, "queued", 10)
    build = app.call("build", "GET", f"/apps/{APP}/builds")["items"][0]["id"]
    with window(profiles["desktop", "light"]) as opened:
        opened.page.goto(f"{stack.settings.url('build')}/builds/{build}")
        opened.page.locator("pre[data-follow]", has_text="line 60 of the log").wait_for(timeout=20_000)
        opened.page.get_by_role("heading", name="failure").wait_for(timeout=20_000)
        hidden = opened.page.evaluate(
            "(p => p.scrollHeight - p.clientHeight - p.scrollTop)(document.querySelector('pre[data-follow]'))"
        )
        assert hidden < 30, "the log's end is in view"
        assert opened.faults() == []
    push.finish()
