"""The keeper's protocol, spoken by a real gRPC client. The last answer is that to the last thing done: what had to be
silent before it was.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
import pytest

from services.keeper.certificates import CertificateFiles
from services.keeper.endpoints import EndpointFiles
from services.keeper.keeper import Subscriber
from services.keeper.log_limit import LONGEST
from services.keeper.xds import (
    ASSIGNMENT,
    METHOD,
    SECRET,
    SERVICE,
    ClusterLoadAssignment,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    Secret,
)
from services.proxy.envoy.files import replace

STABLE, CANARY = "notes.stable#1a2b", "notes.canary#1a2b"


class RunningKeeper(NamedTuple):
    folder: Path
    log: Path
    channel: grpc.Channel


class Envoy:
    """One connection, which ends after 10 s."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests = SimpleQueue[Any]()
        call = channel.stream_stream(
            f"/{SERVICE}/{METHOD}", DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString
        )
        self._call: Any = call(iter(self._requests.get, None), timeout=10)

    def send(self, kind: str = ASSIGNMENT, **fields: Any) -> None:
        self._requests.put(DeltaDiscoveryRequest(type_url=kind, **fields))

    def ask(self, *hosts: str, **fields: Any) -> None:
        """Asks for certificates."""
        self.send(SECRET, resource_names_subscribe=hosts, **fields)

    def response(self) -> Any:
        return next(self._call)

    def read(self) -> tuple[str, str, int]:
        """The next response: resource, version, port of its endpoint, or 0."""
        response = self.response()
        [resource] = response.resources
        assert response.type_url == resource.resource.type_url == ASSIGNMENT
        assert response.system_version_info == resource.version  # Envoy's statistics show the former
        assignment = ClusterLoadAssignment.FromString(resource.resource.value)
        assert assignment.cluster_name == resource.name  # else Envoy refuses it
        [port] = [each.endpoint.address.socket_address.port_value for each in hosts(assignment)] or [0]
        self.send(response_nonce=response.nonce)
        return resource.name, resource.version, port

    def certificate(self) -> tuple[str, str | None]:
        """The next response: host, and the chain of its certificate; None: there is none."""
        response = self.response()
        assert response.type_url == SECRET
        if response.removed_resources:
            [host] = response.removed_resources
            return host, None
        [resource] = response.resources
        secret = Secret.FromString(resource.resource.value)
        assert secret.name == resource.name
        assert secret.tls_certificate.private_key.inline_string == f"key of {resource.version}"
        return resource.name, secret.tls_certificate.certificate_chain.inline_string

    def close(self) -> None:
        self._call.cancel()
        self._requests.put(None)


def hosts(assignment: Any) -> list[Any]:
    return [each for locality in assignment.endpoints for each in locality.lb_endpoints]


def put(folder: Path, name: str, version: str, port: int = 20000) -> None:
    """Moves a file into place as the proxy does."""
    endpoint = {
        "endpoint": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "health_check_config": {"hostname": f"127.0.0.1:{port}", "disable_active_health_check": False},
        },
        "health_status": "DRAINING",
        "metadata": {"filter_metadata": {"slipway": {"track": "stable"}}},
    }
    content = {"@type": ASSIGNMENT, "cluster_name": "notes/stable", "endpoints": [{"lb_endpoints": [endpoint]}]}
    replace(folder / name, json.dumps({"version_info": version, "resources": [content]}))


def put_certificate(folder: Path, name: str, version: str) -> None:
    """Moves a certificate into place as the proxy does; `folder` is the one of endpoints."""
    chain = {"certificate_chain": {"inline_string": version}, "private_key": {"inline_string": f"key of {version}"}}
    document = {"version_info": version, "resources": [{"tls_certificate": chain}]}
    replace(folder.parent / "certificates" / f"{name}.json", json.dumps(document))


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKeeper]:
    home = tmp_path_factory.mktemp("k")
    log = home / "log"
    with log.open("ab") as output:
        with (home / "access.log").open("wb") as long:
            long.truncate(LONGEST + 1)  # takes no space
        process = subprocess.Popen([sys.executable, "-m", "services.keeper", str(home)], stderr=output)
    try:
        with grpc.insecure_channel(f"unix:{home / 'keeper.sock'}") as channel:
            grpc.channel_ready_future(channel).result(10)
            yield RunningKeeper(home / "eds", log, channel)
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def folder(keeper: RunningKeeper) -> Path:
    """The keeper's folder of endpoints; it and that of certificates are empty."""
    for each in (keeper.folder, keeper.folder.parent / "certificates"):
        for path in each.iterdir():
            path.unlink()
    return keeper.folder


@pytest.fixture
def envoy(keeper: RunningKeeper) -> Iterator[Envoy]:
    envoy = Envoy(keeper.channel)
    yield envoy
    envoy.close()


def test_a_log_that_nothing_reads_is_emptied(keeper: RunningKeeper) -> None:
    assert (keeper.folder.parent / "access.log").stat().st_size == 0
    assert "is the proxy service down?" in keeper.log.read_text()


def test_every_resource_is_answered_in_a_response_of_its_own_also_without_a_file(folder: Path, envoy: Envoy) -> None:
    put(folder, "notes.stable.json", "v1")

    envoy.send(resource_names_subscribe=[STABLE, CANARY])

    assert [envoy.read(), envoy.read()] == [(STABLE, "v1", 20000), (CANARY, "none", 0)]


def test_the_endpoints_are_those_of_the_file(folder: Path, envoy: Envoy) -> None:
    put(folder, "notes.stable.json", "v1")
    envoy.send(resource_names_subscribe=[STABLE])

    [resource] = envoy.response().resources

    [host] = hosts(ClusterLoadAssignment.FromString(resource.resource.value))
    assert host.health_status == 3  # DRAINING
    assert host.endpoint.health_check_config.hostname == "127.0.0.1:20000"
    assert dict(host.metadata.filter_metadata["slipway"]) == {"track": "stable"}


def test_a_moved_file_is_sent_also_with_the_same_version_and_no_other(folder: Path, envoy: Envoy) -> None:
    put(folder, "notes.stable.json", "v1")
    envoy.send(resource_names_subscribe=[STABLE])
    assert envoy.read() == (STABLE, "v1", 20000)

    put(folder, "shop.stable.json", "v1")  # which it has not asked for
    put(folder, "notes.stable.json", "v2", 20001)
    assert envoy.read() == (STABLE, "v2", 20001)
    put(folder, "notes.stable.json", "v2", 20001)
    assert envoy.read() == (STABLE, "v2", 20001)


def test_after_an_interruption_only_what_has_changed_is_sent(folder: Path, envoy: Envoy) -> None:
    put(folder, "notes.stable.json", "v1")
    put(folder, "notes.canary.json", "v2")
    before = {STABLE: "v1", CANARY: "v1"}

    envoy.send(resource_names_subscribe=[STABLE, CANARY], initial_resource_versions=before)

    assert envoy.read() == (CANARY, "v2", 20000)


def test_a_file_that_is_gone_or_cannot_be_read_takes_no_endpoint_from_envoy(folder: Path, envoy: Envoy) -> None:
    put(folder, "shop.stable.json", "v1")
    (folder / "notes.canary.json").write_text("{}")
    held = {STABLE: "v1", CANARY: "v1"}

    envoy.send(resource_names_subscribe=[STABLE, CANARY, "shop.stable#1a2b"], initial_resource_versions=held)
    assert envoy.read() == ("shop.stable#1a2b", "v1", 20000)
    replace(folder / "shop.stable.json", '{"version_info": "v2", "resources": [{"unknown": 1}]}')
    put(folder, "notes.stable.json", "v2")

    assert envoy.read() == (STABLE, "v2", 20000)


def test_what_envoy_gives_up_is_sent_no_more_and_what_it_asks_for_again_is_sent_again(
    folder: Path, envoy: Envoy
) -> None:
    put(folder, "notes.stable.json", "v1")
    envoy.send(resource_names_subscribe=[STABLE, CANARY])
    envoy.read(), envoy.read()

    envoy.send(resource_names_unsubscribe=[CANARY])
    envoy.send(resource_names_subscribe=[STABLE])
    assert envoy.read() == (STABLE, "v1", 20000)
    put(folder, "notes.canary.json", "v1")
    put(folder, "notes.stable.json", "v2")

    assert envoy.read() == (STABLE, "v2", 20000)


def test_two_envoys_are_served_and_one_that_goes_takes_nothing_with_it(
    keeper: RunningKeeper, folder: Path, envoy: Envoy
) -> None:
    put(folder, "notes.stable.json", "v1")
    envoy.send(resource_names_subscribe=[STABLE])
    envoy.read()
    other = Envoy(keeper.channel)
    other.send(resource_names_subscribe=[STABLE])
    assert other.read() == (STABLE, "v1", 20000)
    other.close()

    put(folder, "notes.stable.json", "v2")

    assert envoy.read() == (STABLE, "v2", 20000)


def test_a_refusal_is_logged_with_its_reason(keeper: RunningKeeper, folder: Path, envoy: Envoy) -> None:
    envoy.send(response_nonce=f"7 {STABLE}", error_detail={"message": "malformed IP address"})
    envoy.send(resource_names_subscribe=[CANARY])
    envoy.read()

    assert f"Envoy refuses 7 {STABLE}: malformed IP address\n" in keeper.log.read_text()


@pytest.mark.anyio
async def test_if_the_kernel_forgot_which_files_were_moved_all_that_differs_is_sent(tmp_path: Path) -> None:
    put(tmp_path, "notes.stable.json", "v2")
    put(tmp_path, "notes.canary.json", "v1")
    subscriber = Subscriber({ASSIGNMENT: EndpointFiles(tmp_path)})
    held = {STABLE: "v2", CANARY: "v1"}
    subscriber.take(
        DeltaDiscoveryRequest(
            type_url=ASSIGNMENT, resource_names_subscribe=[STABLE, CANARY], initial_resource_versions=held
        )
    )
    put(tmp_path, "notes.canary.json", "v2")

    subscriber.changed(None)

    [resource] = (await subscriber.response()).resources
    assert (resource.name, resource.version) == (CANARY, "v2")


def test_a_certificate_is_sent_when_it_is_asked_for_and_whenever_it_changes(folder: Path, envoy: Envoy) -> None:
    put_certificate(folder, "notes.example.com", "v1")
    envoy.ask("notes.example.com")
    assert envoy.certificate() == ("notes.example.com", "v1")

    put_certificate(folder, "notes.example.com", "v2")

    assert envoy.certificate() == ("notes.example.com", "v2")


@pytest.mark.parametrize("host", ["nobody.example.com", "-", "", "../notes", "a/b", "x" * 64, "notes..example.com"])
def test_a_host_without_a_certificate_is_told_to_have_none_and_is_asked_for_again(
    folder: Path, envoy: Envoy, host: str
) -> None:
    put_certificate(folder, "notes", "v1")
    envoy.ask(host)
    assert envoy.certificate() == (host, None)

    put_certificate(folder, "nobody.example.com", "v1")
    envoy.ask("nobody.example.com")

    assert envoy.certificate() == ("nobody.example.com", "v1")


def test_a_certificate_that_is_removed_is_taken_from_envoy(folder: Path, envoy: Envoy) -> None:
    put_certificate(folder, "notes.example.com", "v1")
    envoy.ask("notes.example.com")
    envoy.certificate()

    (folder.parent / "certificates" / "notes.example.com.json").unlink()

    assert envoy.certificate() == ("notes.example.com", None)


def test_a_certificate_that_cannot_be_read_leaves_envoy_the_one_that_it_has(folder: Path, envoy: Envoy) -> None:
    put_certificate(folder, "notes.example.com", "v1")
    put_certificate(folder, "shop.example.com", "v1")
    envoy.ask("notes.example.com", "shop.example.com")
    envoy.certificate(), envoy.certificate()

    replace(folder.parent / "certificates" / "notes.example.com.json", "{}")
    put_certificate(folder, "shop.example.com", "v2")

    assert envoy.certificate() == ("shop.example.com", "v2")


def test_a_wildcard_serves_one_label_and_the_hosts_own_certificate_comes_first(folder: Path, envoy: Envoy) -> None:
    put_certificate(folder, "_.example.com", "wildcard")
    envoy.ask("Notes.Example.com", "a.notes.example.com", "example.com")
    assert [envoy.certificate() for _ in range(3)] == [
        ("Notes.Example.com", "wildcard"),
        ("a.notes.example.com", None),
        ("example.com", None),
    ]

    put_certificate(folder, "notes.example.com", "own")
    assert envoy.certificate() == ("Notes.Example.com", "own")
    (folder.parent / "certificates" / "notes.example.com.json").unlink()
    assert envoy.certificate() == ("Notes.Example.com", "wildcard")


@pytest.mark.anyio
async def test_names_that_visitors_made_up_are_kept_in_bounds(tmp_path: Path) -> None:
    (tmp_path / "certificates").mkdir()
    for name in ("_.example.com", "notes.example.com"):
        put_certificate(tmp_path / "eds", name, "v1")
    subscriber = Subscriber({SECRET: CertificateFiles(tmp_path / "certificates")}, most_aliases=2)
    names = ["a.example.com", "notes.example.com", "b.example.com", "NOTES.example.com", "notes.example.com"]
    subscriber.take(DeltaDiscoveryRequest(type_url=SECRET, resource_names_subscribe=names))

    responses = [await subscriber.response() for _ in range(4)]

    assert [list(each.removed_resources) for each in responses] == [[], [], [], ["a.example.com"]]
    assert [each.resources[0].name for each in responses] == names[:4]
