"""Services answer what their OpenAPI documents declare: no error of the platform, no undeclared status, no
answer of another shape, no wrong request that is accepted. schemathesis makes the requests; all of its checks are on.

`E2E_CASES=20000 E2E_SEED=7 pytest tests/integration/test_api_documents.py` sends more cases, or others.
"""

import asyncio
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build_store import BuildStore
from services.build.config import Settings as BuildSettings
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import BuildReport, TestRun
from services.build.main import build_app as build_service
from services.deployer.config import Settings as DeployerSettings
from services.deployer.main import build_app as deployer
from services.flags.main import build_app as flags
from services.monitor.config import Settings as MonitorSettings
from services.monitor.main import build_app as monitor
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.sample_store import SampleStore
from services.proxy.main import build_app as proxy
from shared.clock import now
from shared.models import BuildState, Environment, InstanceState
from tests.support.api_fuzz import CASES, SEED, fuzzed
from tests.support.build.builds import build
from tests.support.build.service import git_environment
from tests.support.deployer.deployer_stack import Deployer, Outside
from tests.support.flags_stack import TOKEN as FLAGS_TOKEN
from tests.support.flags_stack import settings_for
from tests.support.ports import free_port
from tests.support.proxy.proxy_stack import TOKEN as PROXY_TOKEN
from tests.support.proxy.proxy_stack import running_stack

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(900),  # 20 to 40 s of one core for each document, most of them to make the cases
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning"),  # large cases, and a service's `random`
]
TOKEN = "secret-token"
log = logging.getLogger(__name__)

# What is excused: a call (empty: all calls), the check, its setting, and why. It is all that is left out of the checks.
ACCEPTED = ["2xx", "3xx", 401, 403, 404, 409, 410, 412]  # a valid request may meet any state
WITH_RULES: Mapping[str, object] = {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 422]}}
OF_AN_APP = [
    *(
        "GET /apps",
        "GET /apps/{app}",
        "GET /apps/{app}/builds",
        "GET /apps/{app}/secrets",
        "GET /apps/{app}/deliveries",
    ),
    "GET /apps/{app}/tests/flaky",
]
EXCUSED: Mapping[str, Mapping[str, object]] = {
    "": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
    # 503 is its answer while a loop or dependency fails; the body is declared.
    "GET /ready": {
        "not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]},
        "positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 503]},
    },
    # 202: the removal goes on in the background, and GET answers until it is done. A default rule is never gone.
    **{call: {"use_after_free": {"enabled": False}} for call in (*OF_AN_APP, "GET /rules/{name}")},
    # Their rules span fields, look at what is stored, or read a text (a flag's rule, a URL, a size). No JSON schema can
    # say that.
    "POST /apps": WITH_RULES,
    "PUT /apps/{app}": WITH_RULES,
    "POST /apps/{app}/builds": WITH_RULES,
    "PUT /apps/{app}/secrets/{name}": WITH_RULES,
    "PUT /apps/{app}/tests/flaky/{test}": WITH_RULES,
    "PATCH /apps/{app}/environments/{environment}": WITH_RULES,
    "GET /instances/{id}/samples": WITH_RULES,
    "GET /releases/{id}/samples": WITH_RULES,
    "POST /silences": WITH_RULES,
    "PUT /notifiers": WITH_RULES,
    "PUT /policies/{app}/{environment}": WITH_RULES,
    "PUT /rules/{name}": WITH_RULES,
    "PUT /apps/{app}/analysis": WITH_RULES,
    "POST /apps/{app}/sync": WITH_RULES,
    "PUT /apps/{app}/edge": WITH_RULES,
    "PUT /apps/{app}/certificates/{host}": WITH_RULES,
    "POST /apps/{app}/rollout": WITH_RULES,
    "POST /apps/{app}/rollout/advance": WITH_RULES,
    "PUT /flags/{key}": WITH_RULES,
    "PATCH /flags/{key}": WITH_RULES,
    "POST /flags/{key}/switch": WITH_RULES,
    "POST /import": WITH_RULES,
}


async def hold(app: FastAPI, token: str, examples: int, known: Mapping[str, list[str]], *, loops: bool = True) -> None:
    """Fails if an answer of the app is not what its document declares. All phases but that of `fuzzing` send some 600
    cases; with this one and `examples` it is some 2 000.
    """
    wanted = max(5, examples * (CASES - 600) // 1400)
    outcome = await asyncio.to_thread(
        fuzzed, app, token, examples=wanted, known=known, excused=EXCUSED, with_loops=loops
    )
    log.info("%d cases of seed %d: %s", outcome.cases, SEED, sorted(outcome.statuses.items()))
    assert not outcome.broken, "\n\n".join(f"{what} (E2E_SEED={SEED})\n{how}" for what, how in outcome.broken.items())
    assert outcome.cases >= CASES, f"with {wanted} examples for each call; {outcome.statuses}"


async def test_build(redis: Redis, redis_server: str, tmp_path: Path) -> None:
    settings = BuildSettings(home=tmp_path, token=SecretStr(TOKEN), redis_url=redis_server, driver="process")
    settings.deployer_port = free_port()
    commit = _repository(settings.repositories / "notes.git", tmp_path / "work")
    store = BuildStore(redis)
    await store.add_app(new_app("notes", now()))
    for number in (1, 2, 3):
        await store.add(build(number, commit=commit), is_head=False)
    await store.update("notes-1", lambda b: domain.ended(domain.started(b, now()), BuildState.FAILURE, "no", now()))
    ReportFiles(settings.build_reports).write(
        "notes-1", BuildReport(tests=[TestRun(step="unit", id="t::a", outcome="passed")])
    )
    settings.build_logs.mkdir(parents=True, exist_ok=True)
    known = {"path.app": ["notes"], "path.build_id": ["notes-1", "notes-2", "notes-3"], "query.file": ["app.py"]}
    # Without its loops: a source that is made up is not fetched.
    await hold(build_service(settings), TOKEN, 17, known, loops=False)


async def test_deployer(settings: DeployerSettings, outside: Outside) -> None:
    builds = [outside.build(number, resources={"memory": "32m"}) for number in (17, 18)]
    async with Deployer(settings) as service:
        await service.deployed(builds[0])
    known = {"path.app": ["notes"], "path.id": ["notes-r1"], "body.build": builds}
    # Without its loops: what the changes ask for is not done, which would start some hundred processes.
    await hold(deployer(settings), TOKEN, 74, known, loops=False)


async def test_flags(redis: Redis, redis_server: str, tmp_path: Path) -> None:
    await hold(flags(settings_for(tmp_path, redis_server)), FLAGS_TOKEN, 105, {"path.key": ["set-message"]})


async def test_monitor(redis: Redis, redis_server: str, tmp_path: Path) -> None:
    settings = MonitorSettings(home=tmp_path, token=SecretStr(TOKEN), redis_url=redis_server)
    settings.deployer_port, settings.proxy_port = free_port(), free_port()
    sample = Sample(at=now(), cpu=1, working_set=10, memory_limit=40, memory=0.25)
    await SampleStore(redis).add(
        [
            Watched(
                id="notes-r9-1",
                app="notes",
                environment=Environment.CANARY,
                release="notes-r9",
                component="web",
                state=InstanceState.READY,
                started_at=now(),
                sample=sample,
            )
        ]
    )
    known = {"path.app": ["notes"], "path.id": ["notes-r9-1", "notes-r9"], "path.name": ["errors"]}
    await hold(monitor(settings), TOKEN, 32, known)


async def test_proxy(redis: Redis, redis_server: str, tmp_path: Path) -> None:
    with running_stack(tmp_path, redis_server, redis) as stack:
        async with stack.service():
            await stack.with_canary()
        known = {"path.app": ["notes"], "path.release": ["notes-r2"], "body.release": ["notes-r2"]}
        await hold(proxy(stack.settings), PROXY_TOKEN, 44, known)


def _repository(bare: Path, work: Path) -> str:
    """Makes the repository of an app with the branch `release`, and returns the id of its commit."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=work, env=git_environment(), capture_output=True, check=True)
        return done.stdout.decode().strip()

    work.mkdir()
    git("init", "--quiet", "--initial-branch", "release", ".")
    (work / "app.py").write_text("print('hello')\n")
    git("add", "--all")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    bare.parent.mkdir(parents=True, exist_ok=True)
    (work / ".git").rename(bare)
    return subprocess.run(
        ["git", "--git-dir", str(bare), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
