"""A home that an earlier commit filled starts under this tree with nothing lost, and everything in it goes on.

`old_home/README.md` says what the home holds, and how another one is made.
"""

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.build.git.remote_source import Forge
from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for
from stack.local.local_stack import LocalStack, local_stack
from tests.e2e.old_home.contract import ANSWERS, ARCHIVE, HOME, answers, lost
from tests.support.build.webhooks import call

PAGES = {
    "build": ("/", "/builds/kept-3", "/builds/kept-3/log", "/builds/kept-3/tests", "/builds/kept-3/comparison"),
    "monitor": ("/", "/alerts"),
    "flags": ("/", "/flags/new-page"),
    "proxy": ("/", "/apps/kept/rollout"),
}


@dataclass
class OldHome:
    """The stack on the held home, and what it said right after its start."""

    stack: LocalStack
    first: dict[str, Any]


@pytest.fixture(scope="module")
def old() -> Iterator[OldHome]:
    home = unpacked()
    try:
        with local_stack(home) as stack:
            for name in ("kept", "keeper"):
                app = Deployable(stack, name, home / "clones" / name)
                for url in (app.production, app.canary):
                    wait_for(lambda: probe(url, "/up", app.host).status == 200, f"{name} on {url}", 30)  # noqa: B023
            yield OldHome(stack, answers(stack))
    finally:
        shutil.rmtree(home)


def unpacked() -> Path:
    """Returns a folder with the home, in whose files its own path stands. Redis' file counts its bytes."""
    home = Path(tempfile.mkdtemp(prefix=HOME[len("/tmp/") : -8], dir="/tmp"))
    assert len(str(home)) == len(HOME)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(home, filter="tar")
    for path in home.rglob("*"):
        if path.is_symlink():
            target = str(path.readlink()).replace(HOME, str(home))
            path.unlink()
            path.symlink_to(target)
        elif path.is_file() and HOME.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(HOME.encode(), str(home).encode()))
    return home


@pytest.fixture
def clone(old: OldHome, tmp_path: Path) -> Callable[[str], Deployable]:
    """An app of the home with a clone of its repository."""

    def made(name: str) -> Deployable:
        app = Deployable(old.stack, name, tmp_path / name)
        app.repository.pull("dev")
        return app

    return made


@pytest.mark.smoke
def test_every_answer_is_what_it_was(old: OldHome) -> None:
    text = ANSWERS.read_text()
    before = json.loads(text.replace(HOME, str(old.stack.settings.home)))
    _take_out_the_rules_of_canaries(before)
    differences = list(lost(before, old.first))
    assert differences == [], "\n".join(differences)


def _take_out_the_rules_of_canaries(before: Any) -> None:
    """Takes out what decision 50 changed: the default rule `errors` concerns production only, and `latency` is gone,
    because the rule `analysis` judges canaries.
    """
    (rules,) = (found for question, found in before.items() if question.endswith(" /rules"))
    rules["items"] = [rule for rule in rules["items"] if rule["name"] != "latency"]
    for rule in rules["items"]:
        if rule["name"] == "errors":
            rule |= {"environment": "production", "aborts": False}


def test_every_page_shows_it(old: OldHome) -> None:
    for service, paths in PAGES.items():
        with old.stack.api(service) as client:  # type: ignore[arg-type]
            for path in paths:
                answer = client.get(path, headers={"Accept": "text/html"})
                assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html"), path


def test_a_webhook_is_signed_with_the_secret_of_before(old: OldHome) -> None:
    with old.stack.api("build") as build:
        states = []
        for secret in ("wrong", None):
            ping = call(Forge.GITHUB, event="ping", delivery="today", **({"secret": secret} if secret else {}))
            states.append(build.post("/webhooks/github/fetched", headers=ping.headers, content=ping.body).status_code)
    assert states == [401, 200]


def told(app: Deployable, url: str) -> Any:
    return json.loads(probe(url, "/told", app.host).body)


def test_an_app_goes_on_its_canary_is_promoted_and_an_old_release_comes_back(
    old: OldHome, clone: Callable[[str], Deployable]
) -> None:
    app = clone("kept")
    for environment, url, flag in (("production", app.production, False), ("canary", app.canary, True)):
        secret = hashlib.sha256(f"only-{environment}".encode()).hexdigest()
        assert told(app, url) == {"greeting": f"hello {environment}", "secret": secret, "new-page": flag}
    seen = tracks_of_new_visitors(app.public, 600, host="kept.example")
    assert 0.12 < seen["canary"] / 600 < 0.28 and seen["lost"] == 0, seen  # 20 % ± 4.9 standard deviations
    assert probe(app.public, "/version", "unknown.example").status == 200, "it had the unknown hosts, and keeps them"

    app.rollout("promote", release="kept-r4")
    wait_for(lambda: app.rollout()["state"] == "promoted", "the promotion", 30)
    commits = {each["id"]: each["commit"] for each in app.call("build", "GET", "/apps/kept/builds")["items"]}
    assert app.sees(app.production, commits["kept-5"])
    app.call("deployer", "POST", "/apps/kept/environments/production/rollback", {"to": "kept-r1"})
    wait_for(lambda: app.sees(app.production, commits["kept-1"]), "the first release", 30)

    app.repository.replace("app.py", "VERSION = 5", "VERSION = 6")
    app.repository.commit("sixth")
    app.deliver(Environment.PRODUCTION)
    build = app.call("build", "GET", "/builds/kept-6")
    assert (build["state"], build["passed"], build["recovered"]) == ("success", True, True)
    with old.stack.api("build") as client:
        assert "with ***" in client.get("/builds/kept-6/log").text
    gates = {gate["name"]: (gate["figure"], gate["previous"], gate["trend"]) for gate in build["gates"]}
    assert (gates["test_failures"], gates["findings"]) == ((0, 1, "better"), (1, 1, "same"))
    assert told(app, app.production)["greeting"] == "hello production"


def test_an_app_with_a_volume_has_its_data_and_its_gate_and_its_canary_is_aborted(
    clone: Callable[[str], Deployable],
) -> None:
    app = clone("keeper")
    for release, url in (("keeper-r1", app.production), ("keeper-r2", app.canary)):
        assert json.loads(probe(url, "/starts", app.host).body) == [release, release]
    assert app.rollout("abort", release="keeper-r2", reason="trial")["state"] == "aborted"
    assert tracks_of_new_visitors(app.public, 100, host=app.host) == {"stable": 100}

    manifest = json.loads((app.repository.folder / "slipway.yml").read_text())
    (app.repository.folder / "slipway.yml").write_text(
        json.dumps({**manifest, "steps": [{"name": "no", "commands": ["false"]}]})
    )
    app.repository.commit("third, which does not pass")
    refused = app.repository.push("release").finish()
    assert not refused.accepted and "remote rejected" in refused.output
    (app.repository.folder / "slipway.yml").write_text(json.dumps(manifest))
    app.repository.replace("app.py", "VERSION = 2", "VERSION = 3")
    app.repository.commit("fourth")
    app.deliver(Environment.PRODUCTION)
    assert json.loads(probe(app.production, "/starts", app.host).body) == ["keeper-r1", "keeper-r1", "keeper-r3"]
