"""Envoy gets its endpoints from the keeper: at any number of apps, over the death of either, without any service."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.proxy.control.keeper_socket import keeper_fault
from services.proxy.envoy.admin import EnvoyAdmin, admin_client, version_stat
from services.proxy.envoy.files import EnvoyFiles, admin_socket, envoy_folder
from services.proxy.routes.route import Route
from shared.models import Track
from tests.support.ports import free_port
from tests.support.proxy.proxy_stack import App, Stack, until
from tests.support.proxy.routes import endpoint, route

pytestmark = pytest.mark.anyio

APPS = 100  # Envoy ended itself at the 63rd app while it read the files itself: a user has 128 inotify instances
EDS = "eds/notes.stable.json"


def write(stack: Stack, routes: Iterable[Route]) -> dict[str, str]:
    """Writes Envoy's files in place of the proxy service, which does not run; returns the versions of all files."""
    files = EnvoyFiles(envoy_folder(stack.settings))
    files.write(routes)
    return files.versions


def notes(app: App, health: str = "/up") -> Route:
    given = route(endpoint("notes-r1-1", port=app.port))
    given.endpoints[Track.STABLE]["notes-r1-1"].health = health
    return given


@contextlib.asynccontextmanager
async def admin_of(stack: Stack) -> AsyncIterator[EnvoyAdmin]:
    async with admin_client(admin_socket(stack.settings)) as http:
        yield EnvoyAdmin(http)


async def accepted(stack: Stack, versions: dict[str, str]) -> None:
    """Waits until Envoy runs these versions of its files."""
    async with admin_of(stack) as admin:

        async def all_of_them() -> bool:
            found = await admin.versions()
            return {name: found.get(version_stat(name)) for name in versions} == versions

        await until(all_of_them, 20)


async def answers(stack: Stack, app: str = "notes") -> str:
    async with httpx.AsyncClient(verify=False) as http:  # certificates would take 35 ms each time
        answer = await http.get(stack.url(), headers={"host": f"{app}.localhost"})
        return answer.text if answer.status_code == 200 else f"{answer.status_code} {answer.text}"


def inotify_instances(stack: Stack) -> int:
    assert stack.envoy is not None
    folder = Path(f"/proc/{stack.envoy.pid}/fd")
    return sum("inotify" in os.readlink(path) for path in folder.iterdir() if path.is_symlink())


async def test_envoy_takes_no_more_inotify_instances_with_more_apps(stack: Stack) -> None:
    app = stack.app("app")
    routes = [route(endpoint(f"app{number}-r1-1", port=app.port), app=f"app{number}") for number in range(APPS)]
    await accepted(stack, write(stack, routes[:1]))
    before = inotify_instances(stack)

    await accepted(stack, write(stack, routes))

    async def all_answer() -> bool:
        """One server stands for all apps; its first health checks come at once, and some may be too many for it."""
        return {await answers(stack, each.app) for each in routes} == {"app"}

    assert (before, inotify_instances(stack)) == (5, 5)
    await until(all_answer)
    stack.kill_envoy()
    stack.start_envoy()
    await until(all_answer)


async def test_a_change_while_the_keeper_was_away_takes_effect(stack: Stack) -> None:
    one, two = stack.app("one"), stack.app("two")
    await accepted(stack, write(stack, [notes(one)]))
    assert await answers(stack) == "one"
    stack.kill_keeper()
    both = route(endpoint("notes-r1-1", port=one.port), endpoint("notes-r1-2", port=two.port))
    versions = write(stack, [both])
    assert {await answers(stack) for _ in range(10)} == {"one"}

    stack.start_keeper()

    await accepted(stack, versions)

    async def both_answer() -> bool:
        return {await answers(stack) for _ in range(10)} == {"one", "two"}

    await until(both_answer)


async def test_envoy_starts_again_with_nothing_but_the_keeper(stack: Stack) -> None:
    await accepted(stack, write(stack, [notes(stack.app("one"))]))
    stack.kill_envoy()
    stack.start_envoy()
    assert await answers(stack) == "one"

    stack.kill_envoy()
    stack.kill_keeper()
    stack.start_keeper()
    stack.start_envoy()
    assert await answers(stack) == "one"


async def test_an_envoy_that_starts_before_the_keeper_refuses_visitors_until_it_has_endpoints(stack: Stack) -> None:
    await accepted(stack, write(stack, [notes(stack.app("one"))]))
    stack.kill_envoy()
    stack.kill_keeper()
    starting = asyncio.create_task(asyncio.to_thread(stack.start_envoy))
    async with admin_of(stack) as admin:

        async def initializing() -> bool:
            with contextlib.suppress(Exception):
                return bool((await admin.bootstrap()) and not starting.done())
            return False

        await until(initializing)

    stack.start_keeper()

    await starting
    assert await answers(stack) == "one"


@pytest.mark.parametrize("keeper_is_away", [False, True])
async def test_a_cluster_that_is_defined_anew_gets_its_endpoints_and_until_then_the_old_one_serves(
    stack: Stack, keeper_is_away: bool
) -> None:
    app = stack.app("one", health="/healthz")
    await accepted(stack, write(stack, [notes(app)]))
    if keeper_is_away:
        stack.kill_keeper()
    versions = write(stack, [notes(app, health="/healthz")])
    if keeper_is_away:
        await accepted(stack, versions)
        assert {await answers(stack) for _ in range(20)} == {"one"}
        stack.start_keeper()

    async with admin_of(stack) as admin:

        async def defined_anew() -> bool:
            assert await answers(stack) == "one"
            dump: Any = (await admin._get("/config_dump", resource="dynamic_active_clusters")).text
            warming: Any = (await admin._get("/config_dump", resource="dynamic_warming_clusters")).json()
            return "/healthz" in dump and not warming.get("configs")

        await until(defined_anew)
        await accepted(stack, versions)
        assert [host.healthy for host in (await admin.clusters()).hosts] == [True]


async def test_endpoints_that_envoy_refuses_are_said_and_harm_no_other_app(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    good, bad = stack.app("good"), stack.app("bad")
    async with stack.service():
        await stack.put(good)
        await stack.sync()
        bad.address = "not-an-address:80"
        await stack.put(bad, release="notes-r2")
        answer = await stack.api.post("/apps/notes/sync", json={"hosts": []})
        assert answer.status_code == 504
        assert f"of {EDS}, not" in answer.text
        ready = await stack.api.get("/ready")
        assert ready.json()["problems"]["envoy"] == f"Envoy does not run the newest version of {EDS}"
        assert (await http.get("/")).text == "good"
        assert "malformed IP address: not-an-address" in (stack.settings.home / "keeper.log").read_text()

        await stack.put(stack.app("other"), release="other-r1", of="other")
        await stack.sync("other")

    stack.kill_envoy()
    stack.start_envoy()

    async def is_served() -> bool:  # on a busy machine, Envoy's first health check may come too late
        return await answers(stack, "other") == "other"

    await until(is_served)


async def test_without_the_keeper_visitors_are_served_and_it_is_said(stack: Stack, http: httpx.AsyncClient) -> None:
    async with stack.service():
        _, canary = await stack.with_canary(100)
        assert (await http.get("/")).text == "canary"
        stack.kill_keeper()
        ready = await stack.api.get("/ready")
        assert (ready.status_code, list(ready.json()["problems"])) == (503, ["keeper"])
        assert "the keeper does not answer" in ready.json()["problems"]["keeper"]

        answer = await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r2"})
        assert answer.status_code == 504  # the routes have changed, the endpoints have not
        before = canary.hits
        assert {(await http.get("/", headers={"x-canary": "always"})).text for _ in range(10)} == {"stable"}
        assert (await http.get(stack.url("canary"))).status_code == 503
        assert canary.hits == before

        stack.start_keeper()

        async def well() -> bool:
            return (await stack.api.get("/ready")).status_code == 200

        await until(well)
        answer = await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r2"})
        assert (answer.status_code, answer.json()["state"]) == (200, "aborted")


async def test_a_keeper_that_hangs_is_said(stack: Stack) -> None:
    assert stack.keeper is not None

    async def answers_at_all() -> bool:
        return await keeper_fault(envoy_folder(stack.settings)) is None

    await until(answers_at_all)  # an Envoy without clusters does not wait for it
    keeper = psutil.Process(stack.keeper.pid)
    keeper.suspend()
    await until(lambda: keeper.status() == psutil.STATUS_STOPPED)

    fault = await keeper_fault(envoy_folder(stack.settings))

    assert fault is not None and "(TimeoutError): Envoy serves visitors with the endpoints that it has" in fault


async def test_envoys_health_checks_name_the_address_as_host(stack: Stack) -> None:
    """The default, `notes/stable`, is answered with 400 by nginx."""
    app = stack.app("one")
    await accepted(stack, write(stack, [notes(app)]))

    await until(lambda: app.health_hosts != set())

    assert app.health_hosts == {app.address}


async def test_an_envoy_with_an_earlier_bootstrap_is_ended_to_be_started_with_the_present_one(stack: Stack) -> None:
    assert stack.envoy is not None
    stack.settings = stack.settings.model_copy(update={"public_port": free_port()})
    await stack.put(stack.app("one"))
    async with stack.service():
        envoy = stack.envoy
        await until(lambda: envoy.poll() is not None)
        stack.start_envoy()
        await stack.sync()
        assert await answers(stack) == "one"
        assert stack.envoy.poll() is None
