"""The apps' network, where a client of the engine says that it has an impossible subnet."""

import json
from pathlib import Path

import pytest

from shared.host.docker_engine import STACK
from stack.compose.engine import EngineError
from stack.compose.network import ensure


def test_a_subnet_that_cannot_be_read_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"Name": "apps", "Labels": {STACK: "ours"}, "IPAM": {"Config": [{"Subnet": "10.0.0.5/16"}]}}
    client = tmp_path / "docker"
    client.write_text(f"#!/bin/sh\ncat <<'end'\n{json.dumps([found])}\nend\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineError, match=r"network apps: 10\.0\.0\.5/16 .*; `docker network rm apps`"):
        ensure("apps", "ours")
