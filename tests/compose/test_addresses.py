"""Envoy's endpoints of an app lead to that app or to no container, also when all containers were replaced."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe, wait_for
from stack.compose.compose_stack import ComposeStack
from stack.compose.engine import docker, remove_container
from tests.support.deployer.engine import BASE

pytestmark = pytest.mark.docker


def instances(stack: ComposeStack, apps: Iterable[Deployable]) -> dict[str, str]:
    """Running containers of the apps → their addresses."""
    own = f"label=io.slipway.stack={stack.project}", "label=io.slipway.instance"
    filters = [word for each in own for word in ("--filter", each)]
    names = [
        docker("ps", "--format", "{{.Names}}", *filters, "--filter", f"label=io.slipway.app={each.app}")
        for each in apps
    ]
    address = f'{{{{(index .NetworkSettings.Networks "{stack.project}").IPAddress}}}}'
    return {each: docker("inspect", "--format", address, each) for each in " ".join(names).split()}


def crowd(app: Deployable) -> set[str]:
    """Returns the commits with which ten simultaneous visitors are answered; empty, after 5 s, if no answer comes."""
    with ThreadPoolExecutor(10) as visitors:
        return {seen.commit for seen in visitors.map(lambda _: probe(app.public, "/version", app.host), range(10))}


def killed(stack: ComposeStack, app: Deployable) -> None:
    """Its only instance; another one has taken its place."""
    [container] = instances(stack, [app])
    docker("kill", container)
    wait_for(lambda: bool(instances(stack, [app]).keys() - {container}), "another in its place", 20)


@pytest.fixture
def other(stack: ComposeStack) -> Iterator[str]:
    """A container on the apps' network."""
    name = f"{stack.project}-other"
    docker("run", "--detach", "--init", "--name", name, "--network", stack.project, BASE, "sleep", "600")
    yield name
    remove_container(name)


def test_no_visitor_is_led_to_another_app(
    stack: ComposeStack, make_app: Callable[[str], Deployable], other: str
) -> None:
    """An engine gives its lowest address that is free. So the first app would now get the other container's, and the
    second app that of the first, where Envoy looks for the first one.
    """
    apps = {}
    for name in ("mine", "yours"):
        app = make_app(name)
        (app.repository.folder / "VERSION").write_text(name)
        apps[app] = app.repository.commit(name)
        app.deliver(Environment.PRODUCTION)
    wait_for(lambda: all(app.latest_release(Environment.PRODUCTION)["state"] == "live" for app in apps), "live", 20)
    before = instances(stack, apps)
    with stack.kept_down("proxy"):
        remove_container(other)
        for app in apps:
            killed(stack, app)
        time.sleep(2)  # they listen, and Envoy looks at them
        assert not set(instances(stack, apps).values()) & set(before.values())
        for app, commit in apps.items():
            assert crowd(app) <= {"", commit}
    wait_for(lambda: all(app.sees(app.public, commit) for app, commit in apps.items()), "both served again", 30)
