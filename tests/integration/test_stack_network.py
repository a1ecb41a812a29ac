"""The apps' network as `make up` makes it, keeps it, or makes it anew."""

import os
import shutil
import uuid
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.host import docker_engine
from stack.compose import engine as client
from stack.compose.engine import docker
from stack.compose.network import INSTANCE, ensure
from tests.support.deployer.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.docker


@pytest.fixture
def name(engine: "DockerClient") -> Iterator[str]:
    """Yields the name of a Compose project and of its network; removes both afterwards."""
    project = f"slipway-test-{uuid.uuid4().hex[:8]}"
    yield project
    client.remove_made(f"test={project}")
    client.remove_made(f"{docker_engine.STACK}={project}")
    client.remove_network(project)


def network(engine: "DockerClient", name: str) -> dict[str, Any]:
    [found] = [each.attrs for each in engine.networks.list(names=[name])]
    return dict(found)


def pool(engine: "DockerClient", name: str) -> dict[str, Any]:
    [found] = network(engine, name)["IPAM"]["Config"]
    return dict(found)


def older(name: str) -> None:
    """Makes the network in the way in which Compose made it for an older Slipway."""
    docker("network", "create", "--label", f"com.docker.compose.project={name}", name)


def begin(name: str, *more: str) -> str:
    """The address of a new container."""
    container = docker(
        "run", "--detach", "--init", "--network", name, "--label", f"test={name}", *more, BASE, "sleep", "60"
    )
    return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)


def test_it_keeps_most_addresses_for_the_apps(engine: "DockerClient", name: str) -> None:
    assert ensure(name, name) == ""
    subnet, given = (IPv4Network(pool(engine, name)[key]) for key in ("Subnet", "IPRange"))
    assert given.subnet_of(subnet) and given.num_addresses * 8 == subnet.num_addresses
    assert IPv4Address(begin(name)) in given
    fixed = str(subnet.broadcast_address - 1)
    assert begin(name, "--ip", fixed) == fixed


def test_one_that_is_there_is_left_alone(engine: "DockerClient", name: str) -> None:
    ensure(name, name)
    before = network(engine, name)["Id"]
    assert ensure(name, name) == ""
    assert network(engine, name)["Id"] == before


def test_that_of_an_older_slipway_is_made_anew_when_only_ended_apps_are_on_it(
    engine: "DockerClient", name: str
) -> None:
    older(name)
    begin(name, "--name", f"{name}-app", "--label", f"{INSTANCE}=notes-r1-1")
    docker("kill", f"{name}-app")
    assert ensure(name, name) == ""
    assert pool(engine, name)["IPRange"]


@pytest.mark.parametrize("what", ["app", "service", "ended-service"])
def test_while_somebody_may_need_it_it_stays_and_the_remedy_is_said(
    engine: "DockerClient", name: str, what: str
) -> None:
    older(name)
    begin(name, "--name", f"{name}-{what}", *(("--label", f"{INSTANCE}=notes-r1-1") if what == "app" else ()))
    if what == "ended-service":
        docker("kill", f"{name}-{what}")
    before = network(engine, name)["Id"]
    assert "`make down`, then `make up`" in ensure(name, name)
    assert network(engine, name)["Id"] == before


def test_a_persons_own_is_never_removed(engine: "DockerClient", name: str) -> None:
    docker("network", "create", name)
    before = network(engine, name)["Id"]
    assert "--ip-range" in ensure(name, name)
    assert network(engine, name)["Id"] == before


def test_one_that_was_cut_off_is_completed(engine: "DockerClient", name: str) -> None:
    docker("network", "create", "--label", f"{docker_engine.STACK}={name}", name)
    assert ensure(name, name) == ""
    assert pool(engine, name)["IPRange"]


QUICKER = """\
#!/bin/sh
case "$*" in "network create "*" --subnet "*)
  if mkdir {folder}/once 2>/dev/null; then
    echo "$*" | sed 's/.* --subnet \\([^ ]*\\) .*/\\1/' >{folder}/taken
    {docker} network create --label test={name} --subnet "$(cat {folder}/taken)" {name}-quicker >/dev/null
  fi;;
esac
exec {docker} "$@"
"""


def test_a_subnet_that_another_is_quicker_to_take_is_left_to_it(
    engine: "DockerClient", name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(QUICKER.format(folder=tmp_path, docker=shutil.which("docker"), name=name))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ensure(name, name) == ""
    taken = (tmp_path / "taken").read_text().strip()
    subnets = {each.name: each.attrs["IPAM"]["Config"][0]["Subnet"] for each in engine.networks.list(names=[name])}
    assert subnets[f"{name}-quicker"] == taken != subnets[name]
