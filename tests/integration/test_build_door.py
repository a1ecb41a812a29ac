"""Pushes to a branch of production that are accepted only once their commit has passed."""

import subprocess
from pathlib import Path

import pytest

from tests.support.build.service import BuildService, Developer, eventually, leave

pytestmark = pytest.mark.slow

APP = "notes"
MANIFEST = f"app: {APP}\nsteps:\n- {{name: check, secrets: [WORD], commands: [sh ci.sh]}}\nrun: {{command: x}}\n"
NO = "echo the check says $WORD; exit 1"
SLOW = "touch begun; sleep 60"


@pytest.fixture
def service(service: BuildService) -> BuildService:
    service.http.post("/apps", json={"name": APP, "gate": "push"}).raise_for_status()
    service.http.put(f"/apps/{APP}/secrets/WORD", json={"value": "shibboleth"}).raise_for_status()
    return service


@pytest.fixture
def developer(tmp_path: Path, service: BuildService) -> Developer:
    return Developer(tmp_path / "work", service, APP)


def git(service: BuildService, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "--git-dir", str(service.home / "repositories" / f"{APP}.git")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    return done.stdout + done.stderr


def refs(service: BuildService) -> dict[str, str]:
    lines = git(service, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split() for line in lines if line)


def begun(service: BuildService, build_id: str) -> None:
    eventually(lambda: (service.home / "releases" / APP / build_id / "begun").exists(), 20)


def test_a_push_goes_in_once_its_commit_has_passed(service: BuildService, developer: Developer) -> None:
    good = developer.commit({"slipway.yml": MANIFEST, "ci.sh": "echo checked"})
    shown = developer.push()
    assert "notes-1 queued" in shown and "judged before release accepts it" in shown
    assert shown.index("notes-1 success: passed") < shown.index("notes-2 success: notes-r1 is live in production")
    assert [build for _, build in service.deployer.asked] == ["notes-2"]
    assert refs(service)["refs/heads/release"] == good

    developer.commit({"ci.sh": NO})
    shown = developer.push()
    assert "the check says ***" in shown and "shibboleth" not in shown
    assert "notes-3 failure: gate steps: check exited with 1" in shown
    assert "The push to release is refused. Nothing of this push was accepted: mend that and push again" in shown
    assert "[remote rejected] HEAD -> release (pre-receive hook declined)" in shown
    assert refs(service)["refs/heads/release"] == good
    refused = service.build("notes-3")
    assert (refused["door"], refused["environment"], refused["branch"]) == (True, None, "release")
    assert "passing" in service.http.get(f"/apps/{APP}/badge.svg").text
    page = service.http.get("/builds/notes-3", headers={"Accept": "text/html"}).text
    assert "judged before release accepts it" in page
    eventually(lambda: list(refs(service)) == ["refs/heads/release"])

    service.http.post("/builds/notes-3/retry").raise_for_status()  # must not bring it to production
    assert service.ended("notes-4")["branch"] is None
    assert len(service.deployer.asked) == 1


def test_other_branches_and_deletions_are_not_held_up_but_by_company(
    service: BuildService, developer: Developer
) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": "true"})
    branches = {"release": "production", "stable": "production", "dev": "canary"}
    service.http.put(f"/apps/{APP}", json={"branches": branches}).raise_for_status()
    assert "judged before stable accepts it" in developer.push("HEAD:release HEAD:stable")
    bad = developer.commit({"ci.sh": NO})
    shown = developer.push("HEAD:dev HEAD:release")
    assert "branches that need no verdict can be pushed by themselves" in shown
    assert "refs/heads/dev" not in refs(service)
    assert "judged before" not in developer.push("HEAD:dev")
    assert refs(service)["refs/heads/dev"] == bad
    assert "stable is deleted; nothing to build" in developer.push(":stable")
    assert "refs/heads/stable" not in refs(service)


def test_a_bad_manifest_and_a_silent_commit_are_judged(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": f"app: {APP}\nhost: [a.example]\nrun: {{command: x}}\n"})
    assert "host (line 2): is not a key of the manifest; did you mean hosts?" in developer.push()
    developer.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--amend", "--quiet", "-m", "[CI SKIP]")
    assert "The push to release is refused" in developer.push()
    assert refs(service).get("refs/heads/release") is None


def test_hidden_refs_are_neither_seen_nor_pushed(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": SLOW})
    pushing = developer.push_in_background()
    begun(service, "notes-1")
    assert any(ref.startswith("refs/slipway/door/") for ref in refs(service))
    assert "slipway" not in developer.git("ls-remote", developer.remote)
    assert "hidden ref" in developer.push("HEAD:refs/slipway/door/x")
    leave(pushing)
    build = service.ended("notes-1")
    assert (build["state"], "its pusher has disconnected" in build["reason"]) == ("cancelled", True)
    eventually(lambda: refs(service) == {})
    assert "error" not in git(service, "fsck", "--strict")


def test_two_pushes_of_a_commit_wait_for_one_build(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": "touch begun; sleep 5"})
    first = developer.push_in_background()
    begun(service, "notes-1")
    second = developer.push_in_background()
    eventually(lambda: "notes-1" in service.log("notes-1") and second.poll() is None)
    leave(first)
    shown, _ = second.communicate(timeout=40)
    assert "notes-1 success" in shown and "notes-2 success" in shown
    assert [build["id"] for build in service.http.get(f"/apps/{APP}/builds").json()["items"]] == ["notes-2", "notes-1"]


def test_the_newer_at_the_door_wins(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": SLOW})
    older = developer.push_in_background()
    begun(service, "notes-1")
    newer = developer.commit({"ci.sh": "true"})
    assert "notes-2 success" in developer.push()
    shown, _ = older.communicate(timeout=20)
    assert "superseded by notes-2" in shown and "the newer push goes first" in shown
    assert refs(service)["refs/heads/release"] == newer


def test_a_killed_service_lets_nothing_in(service: BuildService, developer: Developer) -> None:
    commit = developer.commit({"slipway.yml": MANIFEST, "ci.sh": "touch begun; sleep 3"})
    pushing = developer.push_in_background()
    begun(service, "notes-1")
    service.kill()
    pushing.communicate(timeout=20)
    assert pushing.returncode != 0
    service.start()
    assert service.ended("notes-1")["state"] == "cancelled"
    assert "refs/heads/release" not in refs(service)
    assert "error" not in git(service, "fsck", "--strict")
    assert "notes-3 success" in developer.push()
    assert refs(service)["refs/heads/release"] == commit


def test_a_silent_step_keeps_the_line_alive(
    service: BuildService, developer: Developer, monkeypatch: pytest.MonkeyPatch
) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": "sleep 8"})
    monkeypatch.setenv("GIT_TRACE_PACKET", "1")
    shown = developer.git("push", developer.remote, "HEAD:release", merged=True)
    silence = shown.partition("$ sh ci.sh")[2].partition("notes-1 success")[0]
    assert "sideband< \\1" in silence  # an empty packet of git's every 5 s: whatever is between does not hang up


def test_a_service_that_is_told_to_end_lets_nothing_in(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": MANIFEST, "ci.sh": SLOW})
    pushing = developer.push_in_background()
    begun(service, "notes-1")
    service.process.terminate()
    shown, _ = pushing.communicate(timeout=30)
    service.process.wait(20)
    assert pushing.returncode != 0
    assert "Nothing of this push was accepted; push again" in shown
    assert "refs/heads/release" not in refs(service)
    service.start()


def test_thousands_of_files_pass_the_door(service: BuildService, developer: Developer) -> None:
    files = {f"data/{number}": f"{number}\n" for number in range(3000)}
    commit = developer.commit({"slipway.yml": MANIFEST, "ci.sh": "ls data | wc -l", **files})
    assert "3000" in developer.push()
    assert refs(service)["refs/heads/release"] == commit
    assert "error" not in git(service, "fsck", "--strict")
