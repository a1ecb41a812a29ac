"""The API; nothing is built here."""

import base64
import html
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build import Expired
from services.build.builds.build_steps import step_finished, step_ignored, step_skipped, step_started
from services.build.builds.build_store import BuildStore
from services.build.gates.gate import GateResult
from services.build.gates.history_store import HistoryStore
from services.build.logs.build_log import BuildLogs
from shared.manifest import Manifest, Stage
from shared.models import BuildState
from tests.support.build.api import TOKEN
from tests.support.build.builds import AT, build
from tests.support.paging import refused, walked

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html,*/*"}


async def test_a_build_says_why_it_may_not_be_promoted(client: httpx.AsyncClient, store: BuildStore) -> None:
    step = {"name": "load", "commands": ["true"], "when": {"branch": "release"}}
    manifest = Manifest.model_validate({"app": "notes", "steps": [step]})
    await store.add(build(1, branch="dev", environment="canary", manifest=manifest), is_head=True)
    assert (await client.get("/builds/notes-1")).json()["promotion_refusal"] == "", "there is no app notes"
    await client.post("/apps", json={"name": "notes"})
    assert "load runs on release only" in (await client.get("/builds/notes-1")).json()["promotion_refusal"]


async def test_an_app_is_made_and_changed(client: httpx.AsyncClient) -> None:
    made = await client.post("/apps", json={"name": "notes"})
    assert made.status_code == 201
    assert made.json()["branches"] == {"release": "production", "dev": "canary"}
    assert (await client.post("/apps", json={"name": "notes"})).status_code == 409
    changed = (await client.put("/apps/notes", json={"gates": {"complexity": 30}})).json()
    assert (changed["gates"]["complexity"], changed["branches"]["dev"]) == (30, "canary")
    assert [app["name"] for app in (await client.get("/apps")).json()["items"]] == ["notes"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Not An App"}, "name"),
        ({"name": "notes", "branches": {"a..b": "canary"}}, "branches"),
        ({"name": "notes", "branches": {"main\n": "canary"}}, "branches"),
        ({"name": "notes", "branches": {"a": "moon"}}, "branches.a"),
        ({"name": "notes", "gates": {"speed": 1}}, "gates.speed"),
        ({"name": "notes", "gate": {}}, "gate"),
        ({"name": "notes", "gate": "pull"}, "gate"),
        ({"name": "notes", "source": {"forge": "gitea", "url": "file:///etc"}}, "source.url"),
        ({"name": "notes", "source": {"forge": "cvs", "url": "https://forge.example/a"}}, "source.forge"),
    ],
)
async def test_a_wrong_app_names_its_field(client: httpx.AsyncClient, body: object, field: str) -> None:
    answer = await client.post("/apps", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_what_is_secret_of_a_source_is_written_and_never_read(
    client: httpx.AsyncClient, store: BuildStore
) -> None:
    await client.post("/apps", json={"name": "notes"})
    source = {"forge": "gitea", "url": "https://forge.example/octo/notes.git"}
    secrets = {"token": "hello-token", "webhook_secret": "hello-secret"}
    answers = [await client.put("/apps/notes", json={"source": {**source, **secrets}})]
    answers.append(await client.put("/apps/notes", json={"branches": {"main": "production"}}))
    answers += [await client.get("/apps/notes"), await client.get("/apps")]
    for answer in answers:
        shown = answer.json().get("items", [answer.json()])[0]["source"]
        assert (shown["url"], shown["token_set"], shown["webhook_secret_set"]) == (source["url"], True, True)
    assert "hello" not in "".join(answer.text for answer in answers) + (await store.app("notes")).model_dump_json()
    assert (await client.put("/apps/notes", json={"source": None})).json()["source"] is None


async def test_the_gate_for_pushes_is_set_and_taken_away(client: httpx.AsyncClient, tmp_path: Path) -> None:
    gated = tmp_path / "repositories" / "notes.git" / "gated"
    assert (await client.post("/apps", json={"name": "notes"})).json()["gate"] is None
    assert (await client.put("/apps/notes", json={"gate": "push"})).json()["gate"] == "push"
    assert (await client.put("/apps/notes", json={"gates": {"coverage": 7}})).json()["gate"] == "push"
    assert gated.exists()
    source = {"forge": "gitea", "url": "https://forge.example/octo/notes.git"}
    both = await client.put("/apps/notes", json={"source": source})
    assert (both.status_code, both.json()["errors"][0]["field"]) == (422, "source")
    for none in ("none", None):
        await client.put("/apps/notes", json={"gate": "push"})
        assert (await client.put("/apps/notes", json={"gate": none})).json()["gate"] is None
        assert not gated.exists()
    both = await client.put("/apps/notes", json={"source": source, "gate": "push"})
    assert (both.status_code, both.json()["errors"][0]["field"]) == (422, "gate")


async def test_a_fault_in_a_source_does_not_tell_its_secrets(client: httpx.AsyncClient) -> None:
    source = {"forge": "gitea", "url": "https://octo:hello-token@forge.example/a", "token": ["hello-token"]}
    answer = await client.post("/apps", json={"name": "notes", "source": source})
    assert (answer.status_code, "hello" in answer.text) == (422, False)
    answer = await client.post("/apps", json={"name": "notes", "source": {**source, "token": "hello-token"}})
    assert answer.json()["detail"] == "source.url: holds credentials; give them as username and token"


async def test_an_app_that_is_being_removed_takes_nothing_new(client: httpx.AsyncClient, store: BuildStore) -> None:
    assert (await client.delete("/apps/notes")).status_code == 404
    await store.add_app(new_app("notes", AT))
    for query, volumes in (("", []), ("?volume=data", ["data"]), ("", ["data"]), ("?volumes=true", None)):
        answer = await client.delete(f"/apps/notes{query}")
        assert (answer.status_code, answer.json()["removing"]["volumes"]) == (202, volumes)
    refused = [
        await client.put("/apps/notes", json={"gates": {"coverage": 7}}),
        await client.post("/apps", json={"name": "notes"}),
    ]
    for answer in refused:
        assert (answer.status_code, "is being removed" in answer.json()["detail"]) == (409, True)
    assert (await client.get("/apps/notes")).json()["removing"]["since"]


@pytest.mark.parametrize("body", [{}, {"branch": "a", "commit": "0" * 40}, {"commit": "main"}, {"tag": "x"}])
async def test_a_build_is_of_a_branch_or_of_a_commit(
    client: httpx.AsyncClient, store: BuildStore, body: object
) -> None:
    await store.add_app(new_app("notes", AT))
    assert (await client.post("/apps/notes/builds", json=body)).status_code == 422


async def test_a_branch_that_was_not_pushed_is_said(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add_app(new_app("notes", AT))
    answer = await client.post("/apps/notes/builds", json={"branch": "dev"})
    assert answer.json()["detail"] == "branch: notes has no branch dev; push it first"


async def test_builds_are_paged(client: httpx.AsyncClient, store: BuildStore) -> None:
    for number in (1, 2, 3):
        await store.add(build(number), is_head=True)
    first = (await client.get("/apps/notes/builds?limit=2")).json()
    assert [item["id"] for item in first["items"]] == ["notes-3", "notes-2"]
    second = (await client.get(f"/apps/notes/builds?limit=2&cursor={first['next']}")).json()
    assert ([item["id"] for item in second["items"]], second["next"]) == (["notes-1"], None)


async def test_apps_are_paged_by_name_also_while_some_are_made(client: httpx.AsyncClient) -> None:
    for name in ("e", "c", "a", "g"):
        await client.post("/apps", json={"name": name})

    async def make() -> None:
        for name in ("b", "d"):
            await client.post("/apps", json={"name": name})

    assert [app["name"] for app in await walked(client, "/apps", meanwhile=make)] == ["a", "c", "d", "e", "g"]
    assert await refused(client, "/apps", limit="101", cursor="../") == {"limit", "cursor"}


async def test_flaky_tests_and_builds_are_paged(
    client: httpx.AsyncClient, store: BuildStore, history: HistoryStore
) -> None:
    await client.post("/apps", json={"name": "notes"})
    for test in ("a::b", "c", "a"):
        body = {"reason": "why", "until": (AT + timedelta(days=1)).isoformat()}
        assert (await client.put(f"/apps/notes/tests/flaky/{test}", json=body)).status_code == 200
    path = "/apps/notes/tests/flaky"
    assert [item["test"] for item in await walked(client, path)] == ["c", "a::b", "a"]
    assert await refused(client, path, cursor="yesterday") == {"cursor"}
    assert await refused(client, "/builds", limit="0", cursor="notes-1") == {"limit", "cursor"}


async def test_the_page_names_fifty_apps(client: httpx.AsyncClient, store: BuildStore) -> None:
    for number in range(60):
        await store.put_app(new_app(f"app-{number:02}", AT))
    page = (await client.get("/", headers=HTML)).text
    assert "app-49" in page and "app-50" not in page and "and 10 more" in page
    assert "app-55" in (await client.get("/?app=app-55", headers=HTML)).text


async def test_cancelling_is_an_intent_and_not_for_what_serves(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add(build(1, state=BuildState.RUNNING), is_head=True)
    await store.add(build(2, state=BuildState.RUNNING, passed=True, release="notes-r2"), is_head=True)
    await store.add(build(3, state=BuildState.RUNNING, passed=True, release="notes-r9"), is_head=True)
    asked = await client.post("/builds/notes-1/cancel")
    assert (asked.status_code, asked.json()["state"], asked.json()["stop"]["state"]) == (202, "running", "cancelled")
    asked = await client.post("/builds/notes-2/cancel")
    assert (asked.status_code, asked.json()["stop"]["state"]) == (202, "cancelled")
    refused = await client.post("/builds/notes-3/cancel")
    assert (refused.status_code, refused.json()["detail"]) == (409, "notes-r9 serves visitors already; roll back")


async def test_a_running_build_is_not_retried(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add(build(), is_head=True)
    assert (await client.post("/builds/notes-1/retry")).status_code == 409


async def test_the_log_is_text_from_any_byte(client: httpx.AsyncClient, store: BuildStore, logs: BuildLogs) -> None:
    await store.add(build(), is_head=True)
    assert (await client.get("/builds/notes-1/log")).text == ""
    logs.say("notes-1", "hello")
    assert (await client.get("/builds/notes-1/log")).text == "hello\n"
    assert (await client.get("/builds/notes-1/log?from=2")).text == "llo\n"
    assert (await client.get("/builds/notes-2/log")).status_code == 404


async def test_events_end_with_the_build_and_resume(
    client: httpx.AsyncClient, store: BuildStore, logs: BuildLogs
) -> None:
    await store.add(build(), is_head=True)
    logs.say("notes-1", "first")
    logs.say("notes-1", "second")
    await store.update("notes-1", lambda stored: domain.ended(stored, BuildState.CANCELLED, "by hand", AT))
    whole = (await client.get("/builds/notes-1/events")).text
    kinds = [line.removeprefix("event: ") for line in whole.splitlines() if line.startswith("event")]
    assert kinds == ["log", "state", "end"]
    assert 'data: "first\\nsecond\\n"' in whole and "id: 13" in whole
    resumed = (await client.get("/builds/notes-1/events", headers={"Last-Event-ID": "6"})).text
    assert 'data: "second\\n"' in resumed


async def test_a_browser_gets_pages_without_markup_from_the_log(
    client: httpx.AsyncClient, store: BuildStore, logs: BuildLogs
) -> None:
    await store.add(build(state=BuildState.RUNNING, reason="<i>"), is_head=True)
    logs.say("notes-1", "<script>alert(1)</script>")
    page = (await client.get("/builds/notes-1", headers=HTML)).text
    assert "&lt;script&gt;" in page and "<script>alert" not in page
    assert "Cancel" in page and "&lt;i&gt;" in page
    history = await client.get("/", headers=HTML)
    assert 'href="/builds/notes-1"' in history.text


async def test_a_page_without_builds_says_how_to_begin(client: httpx.AsyncClient) -> None:
    assert "/git/&lt;app&gt;.git" in (await client.get("/")).text


async def test_only_badge_and_schema_are_public(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add(build(), is_head=True)
    del client.headers["Authorization"]
    badge = await client.get("/apps/notes/badge.svg")
    assert (badge.status_code, badge.headers["content-type"]) == (200, "image/svg+xml")
    schema = await client.get("/static/slipway.schema.json")
    assert (schema.status_code, schema.json()["title"]) == (200, "slipway.yml")
    for path in ("/", "/apps", "/apps/notes", "/builds/notes-1", "/builds/notes-1/log", "/builds/notes-1/events"):
        assert (await client.get(path)).status_code == 401, path


async def test_a_form_of_the_page_leads_back_to_the_build(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add(build(state=BuildState.RUNNING), is_head=True)
    password = base64.b64encode(f"any:{TOKEN}".encode()).decode()
    browser = {**HTML, "Authorization": f"Basic {password}", "Sec-Fetch-Site": "same-origin"}
    answer = await client.post("/builds/notes-1/cancel", headers=browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/builds/notes-1")
    foreign = await client.post("/builds/notes-1/cancel", headers={**browser, "Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403


async def test_every_operation_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation.get("description") and operation.get("summary") for operation in operations)


async def test_a_log_is_a_page_of_numbered_lines(client: httpx.AsyncClient, store: BuildStore, logs: BuildLogs) -> None:
    await store.add(build(), is_head=False)
    with logs.open("notes-1") as log:
        log.output(b"".join(b"<%d>\n" % number for number in range(1, 2501)))
    page = (await client.get("/builds/notes-1/log?line=1200", headers=HTML)).text
    assert '<li id="L1200">' in page
    assert "&lt;1200&gt;" in page
    assert page.count("<li id=") == 1000
    assert "Lines 1001 to 2000 of 2500" in page
    assert (await client.get("/builds/notes-1/log")).text.count("\n") == 2500
    assert (await client.get("/builds/notes-1/log?line=0", headers=HTML)).status_code == 422


async def test_a_log_that_expired_is_gone_and_the_build_says_so(
    client: httpx.AsyncClient, store: BuildStore, logs: BuildLogs
) -> None:
    await store.add(build(), is_head=False)
    await store.update("notes-1", lambda stored: domain.ended(stored, BuildState.ERROR, "x", AT))
    await store.note("notes-1", Expired(log=AT, artifact=AT))
    answer = await client.get("/builds/notes-1/log")
    assert (answer.status_code, "deleted by the retention policy on 2026-01-01" in answer.json()["detail"]) == (
        410,
        True,
    )
    assert (await client.get("/builds/notes-1")).json()["expired"]["log"] == "2026-01-01T12:00:00Z"
    page = (await client.get("/builds/notes-1", headers=HTML)).text
    assert "deleted by the retention policy at" in page
    assert "Its artifact is gone since" in page


async def test_steps_that_did_not_run_or_do_not_count_are_shown_as_such(
    client: httpx.AsyncClient, store: BuildStore
) -> None:
    begun = step_started(build(state=BuildState.RUNNING), "lint", Stage.BUILD, AT)
    ignored = step_ignored(step_finished(begun, "lint", 4, "exited with 4", AT), "lint")
    await store.add(step_skipped(ignored, "load", Stage.TEST, "runs on release only", AT), is_head=True)
    page = (await client.get("/builds/notes-1", headers=HTML)).text
    assert 'pending">ignored</span> <span class="quiet">exited with 4<' in page
    assert 'pending">skipped</span> <span class="quiet">runs on release only<' in page


async def test_the_page_says_what_to_do_about_a_gate_and_what_was_left_out(
    client: httpx.AsyncClient, store: BuildStore
) -> None:
    call = 'split it; or allow more: PUT /apps/notes {"gates": {"complexity": 24}}'
    gate = GateResult(name="complexity", passed=False, remedy=call, left_out=["vendor/: 2 files, by convention"])
    await store.add(build(1, gates=[gate]), is_head=False)
    page = (await client.get("/builds/notes-1", headers=HTML)).text
    assert call in html.unescape(page)
    assert "vendor/: 2 files, by convention" in page


async def test_a_person_sets_what_is_left_out_and_that_a_first_commit_is_the_baseline(
    client: httpx.AsyncClient,
) -> None:
    new = (await client.post("/apps", json={"name": "notes"})).json()
    assert (new["exclude"], new["baseline"]) == ([], False)
    await client.put("/apps/notes", json={"exclude": ["lib/", "!lib/ours/"], "baseline": True})
    changed = (await client.put("/apps/notes", json={"gates": {"complexity": 30}})).json()
    assert (changed["exclude"], changed["baseline"]) == (["lib/", "!lib/ours/"], True)
    cleared = (await client.put("/apps/notes", json={"exclude": [], "baseline": False})).json()
    assert (cleared["exclude"], cleared["baseline"]) == ([], False)
    assert (await client.put("/apps/notes", json={"exclude": [""]})).status_code == 422
