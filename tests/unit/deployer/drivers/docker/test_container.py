"""The engine's descriptions of containers are translated to statuses; no engine is asked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from services.deployer.drivers.docker.container import Stack, creation, engine_start, status_of
from services.deployer.drivers.docker.events import LATE_KILL_S, Deaths, EngineEventFollower, with_late_kill
from services.deployer.drivers.docker.usage import HostGroups, use_of
from services.deployer.drivers.driver import InstanceSpec
from shared.manifest import MIB
from shared.models import Artifact

STACK = Stack("one", "slipway")
STARTED_AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
ENDED, LATER, EARLIER = "2026-01-01T12:00:10.123456789Z", "2026-01-01T12:00:11Z", "2026-01-01T12:00:10Z"


def inspected(**state: Any) -> dict[str, Any]:
    given = {
        "Running": False,
        "ExitCode": 0,
        "OOMKilled": False,
        "StartedAt": "2026-01-01T12:00:00.000000001Z",
        "FinishedAt": ENDED,
    }
    return {
        "State": {**given, **state},
        "Image": "sha256:17",
        "Config": {"Labels": {"io.slipway.instance": "notes-r1-1"}, "Env": ["PORT=9090"]},
        "NetworkSettings": {"Networks": {"slipway": {"IPAddress": "172.18.0.2"}}},
    }


def restarted(at: str) -> datetime | None:
    return engine_start([{"Name": "mybridge", "Created": EARLIER}, {"Name": "bridge", "Created": at}])


def test_a_running_one_has_its_address_and_no_end() -> None:
    status = status_of(inspected(Running=True), "slipway", None, 3, None)
    assert (status.address, status.exit_code, status.oom_kills) == ("172.18.0.2:9090", None, 0)
    assert status.started_at == STARTED_AT
    assert (status.release, status.artifact) == ("", "sha256:17")


@pytest.mark.parametrize(
    ("exit_code", "engine_started", "interrupted"),
    [
        *((code, LATER, True) for code in (0, 137, 143, 255)),
        *((code, EARLIER, False) for code in (0, 137, 143, 255)),
        (3, LATER, False),
    ],
)
def test_what_ended_before_the_engine_was_started_was_taken_down(
    exit_code: int, engine_started: str, interrupted: bool
) -> None:
    status = status_of(inspected(ExitCode=exit_code), "slipway", restarted(engine_started), 0, None)
    assert (status.interrupted, status.exit_code) == (interrupted, exit_code)


@pytest.mark.parametrize(("seen", "interrupted"), [(None, True), (False, True), (True, False)])
def test_what_was_taken_down_is_no_kill_at_the_limit_unless_one_was_seen(seen: bool | None, interrupted: bool) -> None:
    status = status_of(inspected(ExitCode=137, OOMKilled=True), "slipway", restarted(LATER), 0, seen)
    assert (status.interrupted, status.oom_killed) == (interrupted, not interrupted)


def test_without_a_network_of_the_engine_nothing_counts_as_taken_down() -> None:
    assert engine_start([{"Name": "slipway", "Created": LATER}]) is None
    assert not status_of(inspected(ExitCode=143), "slipway", None, 0, None).interrupted


@pytest.mark.parametrize(
    ("exit_code", "said", "seen", "oom_killed", "kills"),
    [
        (137, True, None, True, 1),
        (137, True, True, True, 1),
        (137, True, False, False, 1),
        (137, False, None, False, 0),
        (1, True, None, False, 1),
    ],
)
def test_the_engines_word_of_a_kill_at_the_limit_is_checked_against_what_was_seen(
    exit_code: int, said: bool, seen: bool | None, oom_killed: bool, kills: int
) -> None:
    status = status_of(inspected(ExitCode=exit_code, OOMKilled=said), "slipway", None, 0, seen)
    assert (status.oom_killed, status.oom_kills) == (oom_killed, kills)


@pytest.mark.parametrize(
    ("since", "killed", "ended", "was_oom"),
    [(0, 4.95, 5, True), (0, 3, 5, False), (0, None, 5, False), (0, 5, None, None), (4.5, None, 5, None)],
)
def test_an_end_is_a_kill_at_the_limit_only_right_after_one(
    since: float, killed: float | None, ended: float | None, was_oom: bool | None
) -> None:
    deaths = Deaths()
    deaths.follow(int(since * 1e9))
    for action, at in (("oom", killed), ("die", ended)):
        if at is not None:
            deaths.note({"Actor": {"ID": "c"}, "Action": action, "timeNano": int(at * 1e9)})
    assert (deaths.was_oom("c"), deaths.kills("c")) == (was_oom, int(killed is not None))


def test_the_image_is_named_by_its_digest_and_the_port_is_the_manifests() -> None:
    artifact = Artifact(kind="image", ref="notes:17", digest="sha256:17")
    made = creation(InstanceSpec("notes-r1-1", artifact, "run", {"PORT": "1", "A": "b"}, 64 * MIB, 9090), STACK)
    assert (made["image"], made["entrypoint"]) == ("sha256:17", ["sh", "-c", "run"])
    assert made["environment"] == {"PORT": "9090", "A": "b", "SLIPWAY_INSTANCE": "notes-r1-1"}
    assert made["mem_limit"] == made["memswap_limit"] == 64 * MIB


@pytest.mark.parametrize("cache", ["total_inactive_file", "inactive_file"])
def test_the_engines_statistics_are_read_in_both_versions(cache: str) -> None:
    statistics = {
        "memory_stats": {"usage": 50, "stats": {cache: 20}},
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
    }
    found = use_of(statistics, 2)
    assert found is not None
    memory, cpu_s = found
    assert (memory.working_set, memory.oom_kills, cpu_s) == (30, 2, 1.5)
    assert use_of({"memory_stats": {}}, 0) is None


@pytest.mark.parametrize("name", ["docker/c", "system.slice/docker-c.scope"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_container_is_found_among_the_machines_control_groups(tmp_path: Path, name: str, version: int) -> None:
    memory, cpu = (tmp_path / "memory" / name, tmp_path / "cpuacct" / name) if version == 1 else (tmp_path / name,) * 2
    for group in {memory, cpu}:
        group.mkdir(parents=True)
    if version == 1:
        (memory / "memory.usage_in_bytes").write_text("50\n")
        (memory / "memory.stat").write_text("total_inactive_file 20\n")
        (cpu / "cpuacct.usage").write_text("1500000000\n")
    else:
        (memory / "memory.max").write_text("100\n")
        (memory / "memory.current").write_text("50\n")
        (memory / "memory.stat").write_text("inactive_file 20\n")
        (memory / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    found = HostGroups(tmp_path).use("c")
    assert found is not None and (found[0].working_set, found[1]) == (30, 1.5)
    assert HostGroups(tmp_path).use("other") is None


def test_after_another_start_a_container_has_another_group(tmp_path: Path) -> None:
    groups, group = HostGroups(tmp_path), tmp_path / "docker" / "c"
    found, inodes = [], set()
    for usage in (50, 70):
        group.rename(tmp_path / "ended") if group.exists() else None
        group.mkdir(parents=True)
        (group / "memory.max").write_text("100\n")
        (group / "memory.current").write_text(f"{usage}\n")
        (group / "memory.stat").write_text("inactive_file 0\n")
        (group / "cpu.stat").write_text(f"usage_usec {usage}000000\n")
        before = groups.group("c")
        assert before is not None and before is groups.group("c")
        found.append(groups.use("c"))
        inodes.add(before.inode)
    assert [use and (use[0].working_set, use[1]) for use in found] == [(50, 50), (70, 70)]
    assert len(inodes) == 2
    groups.keep([])
    assert groups.group("c") is not before


class Finite:
    """A stream that is lost after its events."""

    def __init__(self, *actions: str) -> None:
        of = {"ID": "c", "Attributes": {"io.slipway.instance": "notes-r1-1"}}
        self._events = [{"Actor": of, "Action": action, "timeNano": 5 * 10**9} for action in actions]
        self.is_closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._events)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.slow
def test_lost_events_are_followed_again_and_whoever_listens_looks_for_what_was_missed() -> None:
    attempts: list[OSError | Finite] = [OSError("no"), Finite("oom", "die"), Finite()]
    ends, deaths = SimpleQueue[str | None](), Deaths()
    tried: list[OSError | Finite] = []

    def connect() -> Finite:
        tried.append(attempts[min(len(tried), 2)])
        if isinstance(tried[-1], OSError):
            raise tried[-1]
        return tried[-1]

    follower = EngineEventFollower(connect, deaths, lambda instance_id: ends.put(instance_id), lambda: 0)
    follower.start()
    connected = None
    assert [ends.get(timeout=5) for _ in range(3)] == [connected, "notes-r1-1", connected]
    follower.close()
    assert tried[:3] == attempts and (deaths.kills("c"), deaths.was_oom("c")) == (1, True)
    seen = len(tried)
    with pytest.raises(Empty):
        ends.get(timeout=1.2)
    assert len(tried) == seen
    assert isinstance(attempts[2], Finite) and attempts[2].is_closed


class LateEngine:
    """A container whose kill at the memory limit the engine tells when it is read again."""

    def __init__(self, **state: Any) -> None:
        self.attrs = inspected(**state)

    def reload(self) -> None:
        self.attrs["State"]["OOMKilled"] = True


@pytest.mark.parametrize(
    ("state", "age_s", "is_read_again"),
    [
        ({"ExitCode": 137}, LATE_KILL_S - 0.01, True),
        ({"ExitCode": 137}, LATE_KILL_S + 0.01, False),
        ({"ExitCode": 1}, 0.0, False),
        ({"ExitCode": 137, "Running": True}, 0.0, False),
    ],
)
def test_a_kill_at_the_limit_may_be_told_after_the_end(
    state: dict[str, Any], age_s: float, is_read_again: bool
) -> None:
    container: Any = LateEngine(**state)
    now = datetime.fromisoformat(ENDED) + timedelta(seconds=age_s)
    assert with_late_kill(container, now).attrs["State"]["OOMKilled"] == is_read_again
