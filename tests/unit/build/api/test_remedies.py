"""Each call that a reason names works as it is printed: it is read from the reason and sent."""

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.build.builds.app import App
from services.build.builds.build_store import BuildStore
from services.build.gates.gate import AT_LEAST, evaluate, judge, minimum
from services.build.gates.remedy import with_remedies
from services.build.git.git_fetch import failure_reason
from services.build.git.remote_source import SOURCE_EXAMPLE, Forge, Source
from services.build.git.repository import Repositories
from services.build.inference.infer import infer
from services.build.inference.inference import APP
from services.build.inference.tree import Tree
from services.build.manifest.manifest_faults import loosened, loosened_flaky, missing_secrets
from services.build.manifest.manifest_parser import APP_KEYS, BadManifest, parse_manifest
from services.build.manifest.promotion import promotion_refusal
from services.build.reports.metric import Measure
from services.build.secrets.secret import Secrets
from services.build.system.api_call import api_call
from services.deployer.api.rest import RollbackRequest
from services.deployer.releases.environment_patch import EnvironmentPatch
from shared.errors import NotFound
from shared.manifest import Flaky, Gates, Manifest
from shared.models import Environment, Model
from tests.support.build.builds import build

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[4]
CALL = re.compile(r"\b(PUT|POST|PATCH|DELETE) (/\S+)( (?=\{))?")
WORSE = Gates(
    test_failures=0, coverage=70, changed_coverage=80.5, findings=0, new_findings=0, comment_ratio=5, complexity=5
)
OF_DEPLOYER: dict[str, type[Model]] = {"rollback": RollbackRequest, "production": EnvironmentPatch}
# What a person has to fill in.
PLACES = {"<test>": "tests.test_notes::test_add", "<address that it leads to>": "forge.example/owner/notes.git"}


def calls(text: str) -> Iterator[tuple[str, str, Any]]:
    """Yields method, path and body of each call that the text names."""
    for place, filled in PLACES.items():
        text = text.replace(place, filled)
    for match in CALL.finditer(text):
        body, _ = json.JSONDecoder().raw_decode(text, match.end()) if match[3] else (None, 0)
        yield match[1], match[2].rstrip(");,."), body


async def send(client: httpx.AsyncClient, text: str) -> list[dict[str, Any]]:
    """Sends each call that the text names. Returns their bodies."""
    bodies = []
    for method, path, body in calls(text):
        if "/environments/" in path:
            OF_DEPLOYER[path.rpartition("/")[2]].model_validate(body)
        else:
            answer = await client.request(method, path, json=body)
            assert answer.is_success, f"{method} {path} {body}: {answer.text}"
        bodies.append(body)
    return bodies


@pytest.fixture
async def app(client: httpx.AsyncClient, store: BuildStore) -> App:
    settings = {"name": "notes", "gates": {"coverage": 60}, "exclude": ["vendor/"], "flaky": {"reruns": 0}}
    assert (await client.post("/apps", json=settings)).status_code == 201
    return await store.app("notes")


def verdicts(app: App, asked: Gates, figures: Mapping[str, float]) -> list[str]:
    gates = minimum(app.gates).model_copy(update=asked.model_dump(exclude_none=True))
    results = evaluate(gates, {name: Measure(figure) for name, figure in figures.items()})
    results = with_remedies(results, app.name, app.gates, asked, exclude=app.exclude, first=True)
    return [result.remedy for result in results if not result.passed and result.figure is not None]


@pytest.mark.parametrize("name", Gates.model_fields)
async def test_what_a_gate_says(client: httpx.AsyncClient, app: App, store: BuildStore, name: str) -> None:
    figure = 1.239 if name in AT_LEAST else 999
    asked = Gates() if getattr(minimum(app.gates), name) is not None else WORSE
    [remedy] = verdicts(app, asked, {name: figure})
    await send(client, remedy)
    now = await store.app("notes")
    assert now.gates.coverage == (1.23 if name == "coverage" else 60), "the app's other gates stay"
    assert now.exclude[0] == "vendor/", "what is left out already stays so"
    if name in {"complexity", "function_length", "secrets", "test_failures", "coverage"}:
        assert judge(name, getattr(now.gates, name), Measure(figure)).passed, "it would pass now"


async def test_all_gates_that_failed_can_be_allowed_by_one_call(
    client: httpx.AsyncClient, app: App, store: BuildStore
) -> None:
    figures = {"complexity": 24, "function_length": 200, "coverage": 50}
    *_, last = verdicts(app, Gates(), figures)
    await send(client, last)
    now = (await store.app("notes")).gates
    assert now == Gates(complexity=24, function_length=200, coverage=50)


async def test_what_a_manifest_may_not_say(client: httpx.AsyncClient, app: App, store: BuildStore) -> None:
    asked, flaky = Gates(coverage=50, complexity=30, findings=1), Flaky(reruns=1, at_most=9)
    for fault in loosened("notes", app.gates, asked) + loosened_flaky("notes", app.flaky, flaky):
        assert await send(client, str(fault))
    changed = await store.app("notes")
    assert loosened("notes", changed.gates, asked) + loosened_flaky("notes", changed.flaky, flaky) == []

    for key in APP_KEYS:
        with pytest.raises(BadManifest) as refused:
            parse_manifest(f"app: notes\n{key}: x\n".encode(), "notes")
        assert await send(client, str(refused.value)), key


async def test_a_secret_that_is_not_set(client: httpx.AsyncClient, app: App) -> None:
    step = {"name": "push", "commands": ["true"], "secrets": ["KEY"]}
    manifest = Manifest.model_validate({"app": "notes", "steps": [step]})
    [fault] = missing_secrets(manifest, Secrets({}, frozenset()))
    assert await send(client, str(fault)) == [{"value": "…"}]


async def test_a_folder_that_looks_like_an_app(client: httpx.AsyncClient, app: App, store: BuildStore) -> None:
    tree = Tree({"web/package.json"}, {"web/package.json": b'{"scripts": {"start": "node ."}}'})
    problem = infer(tree, images=False, present={}).problem
    await send(client, problem.replace(APP, "notes"))
    assert (await store.app("notes")).root == "web"


@pytest.mark.parametrize("said", ["fatal: Authentication failed", "The requested URL returned error: 301"])
async def test_a_source_that_cannot_be_fetched(
    client: httpx.AsyncClient, app: App, store: BuildStore, said: str
) -> None:
    given = {"forge": "gitea", "url": "https://forge.example/a/b.git", "api_url": "https://forge.example/api"}
    await client.put("/apps/notes", json={"source": given | {"webhook_secret": "s" * 20}})
    source = (await store.app("notes")).source
    assert source is not None
    assert await send(client, failure_reason("notes", source, [said], ""))
    now = (await store.app("notes")).source
    assert now is not None and now != source
    assert (now.api_url, now.webhook_secret, now.forge) == (source.api_url, source.webhook_secret, Forge.GITEA)


async def test_an_app_that_is_not_there(client: httpx.AsyncClient, store: BuildStore) -> None:
    with pytest.raises(NotFound) as error:
        await store.app("notes")
    await send(client, error.value.detail)
    assert (await store.app("notes")).name == "notes"
    example = await client.put("/apps/notes", json={"source": SOURCE_EXAMPLE})
    assert example.is_success and Source.model_validate(example.json()["source"])


def a_commit(repositories: Repositories) -> str:
    repositories.ensure("notes")
    git = ["git", "--git-dir", str(repositories.path("notes"))]
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    tree = subprocess.run([*git, "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    command = [*git, "commit-tree", "-m", "1", tree]
    made = subprocess.run(command, env={**os.environ, **who}, capture_output=True, text=True, check=True)
    return made.stdout.strip()


async def test_a_promotion_that_production_did_not_judge(client: httpx.AsyncClient, app: App, tmp_path: Path) -> None:
    commit = a_commit(Repositories(tmp_path / "repositories", "/usr/bin:/bin"))
    step = {"name": "load", "commands": ["true"], "when": {"branch": "release"}}
    manifest = Manifest.model_validate({"app": "notes", "steps": [step]})
    canary = build(7, branch="dev", environment=Environment.CANARY, manifest=manifest, commit=commit)
    [ordered] = await send(client, promotion_refusal(canary, app))
    assert ordered == {"branch": "release", "commit": commit}
    queued = (await client.get("/builds/notes-1")).json()
    assert (queued["commit"], queued["branch"], queued["environment"]) == (commit, "release", "production")


def test_no_reason_names_a_change_without_its_body() -> None:
    """Reads the source: calls are written by `api_call`, or with their body."""
    assert api_call("POST", "/builds/notes-1/retry") == "POST /builds/notes-1/retry"
    bodiless = re.compile(r"\b(PUT|PATCH) /[^\s`]+(?! ?\{)(?=[\s`]|$)")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "services").rglob("*.py"))
        for line, text in texts(ast.parse(path.read_text()))
        if bodiless.search(text)
    ]
    assert found == []


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields line and text of each string that is no docstring; `{}` stands for what an f-string inserts."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    silent |= {id(part) for node in joined for part in node.values}
    for each in joined:
        yield each.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in each.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value
