"""The manifest's schema: what is refused, and that the message says what to do."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.manifest import Manifest, parse_size

DATA = {"name": "data", "path": "/data"}


@pytest.mark.parametrize(
    ("text", "size"), [("64m", 64 * 2**20), ("1g", 2**30), ("65536k", 2**26), ("5000000", 5_000_000)]
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"branches": {"release": "canary"}}, "branches"),
        ({"gates": {"coverage": float("nan")}}, "finite"),
        ({"gates": {"coverage": 101}}, "less than or equal to 100"),
        ({"gates": {"coverge": 1}}, "coverge"),
        ({"resources": {"memory": "64 megs"}}, "write it like 64m"),
        ({"resources": {"memory": "1g", "max_memory": "512m"}}, "raise max_memory or lower memory"),
        ({"steps": [{"name": "x", "commands": ["true"], "stage": "deploy"}]}, "platform's own stage"),
        ({"steps": [{"name": "x", "commands": ["true"]}] * 2}, "two steps are named x"),
        ({"steps": [{"name": "x", "commands": ["true"], "reports": {"junit": "../old.xml"}}]}, "inside the repository"),
        (
            {"steps": [{"name": "x", "commands": ["true"], "environment": {"A": "1", "B": "2"}, "secrets": ["B"]}]},
            "B is in environment too; give it in one of them",
        ),
        ({"run": {"health": "up"}}, "health"),
        ({"run": {"drain": "0s"}}, "is 0 s; an instance drains for 1s to 30m, write it like 30s or 5m"),
        ({"run": {"drain": "31m"}}, "is 1860 s; an instance drains for 1s to 30m"),
        ({"run": {"drain": "half an hour"}}, "is not a duration; write it like 30s"),
        ({"run": {"health": "tcp:"}}, "health"),
        ({"run": {"health": "/up\n"}}, "health"),
        ({"run": {"health_host": "notes.localhost:3456"}}, "health_host"),
        ({"hosts": ["Not A Host"]}, "hosts"),
        ({"volumes": [{"name": "Data", "path": "/data"}]}, "volumes.0.name"),
        ({"volumes": [{"name": "a" * 32, "path": "/data"}]}, "volumes.0.name"),
        ({"volumes": [{"name": "data", "path": "/data"}] * 2}, "two volumes have the name data"),
        ({"volumes": [{"name": "a", "path": "/data"}, {"name": "b", "path": "/data"}]}, "have the path /data"),
        ({"volumes": [{"name": f"v{n}", "path": f"/v{n}"} for n in range(9)]}, "at most 8 items"),
        ({"volumes": [DATA], "resources": {"replicas": 2}}, "set replicas to 1"),
        ({"volumes": [DATA], "resources": {"max_replicas": 2}}, "set it to 1 or leave it out"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field_or_remedy(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate({"app": "notes", **part})


def test_what_is_not_said_has_the_documented_defaults() -> None:
    manifest = Manifest.model_validate({"app": "notes"})
    assert (manifest.resources.memory, manifest.resources.max_memory) == (64 * 2**20, 512 * 2**20)
    assert (manifest.canary.weight, manifest.run.health, manifest.resources.replicas) == (33, "", 1)


@pytest.mark.parametrize(("run", "seconds"), [({}, 30), ({"drain": "5m"}, 300), ({"drain": 90}, 90)])
def test_the_time_to_drain_is_a_duration(run: dict[str, Any], seconds: int) -> None:
    assert Manifest.model_validate({"app": "notes", "run": run}).run.drain == seconds


@pytest.mark.parametrize("path", ["data", "/", "/data/", "//data", "/a//b", "/a/../b", "/a/.", "/a b", "/a:ro", ""])
def test_a_volumes_path_is_plain_and_absolute(path: str) -> None:
    with pytest.raises(ValidationError, match=r"volumes\.0\.path\n.*write it like /data"):
        Manifest.model_validate({"app": "notes", "volumes": [{"name": "data", "path": path}]})


@pytest.mark.parametrize("path", ["/proc", "/sys/fs", "/dev/shm", "/etc/app", "/app"])
def test_a_volume_hides_neither_the_system_nor_the_app(path: str) -> None:
    with pytest.raises(ValidationError, match="choose another"):
        Manifest.model_validate({"app": "notes", "volumes": [{"name": "data", "path": path}]})


def test_an_app_with_a_volume_runs_as_one_instance() -> None:
    manifest = Manifest.model_validate({"app": "notes", "volumes": [DATA, {"name": "more", "path": "/app/more"}]})
    assert manifest.resources.max_replicas == 1
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert Manifest.model_validate({"app": "notes"}).resources.max_replicas == 4
