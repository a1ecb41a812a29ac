"""`make up` without Docker: the file of settings that it makes and checks."""

import socket
from pathlib import Path

import pytest

from stack.compose.compose import make_env_file, need_free_ports


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A file that stands for the engine's socket."""
    path = tmp_path / "docker.sock"
    path.touch()
    return path


def test_the_first_start_makes_it_from_the_example(tmp_path: Path, engine: Path) -> None:
    make_env_file(tmp_path / ".env", engine)
    text = (tmp_path / ".env").read_text()
    assert f"DOCKER_GID={engine.stat().st_gid}\n" in text
    assert "#SLIPWAY_PUBLIC_PORT=3456" in text


def test_one_that_is_there_is_left_alone(tmp_path: Path, engine: Path) -> None:
    own = f"SLIPWAY_DOMAIN=example.com\nDOCKER_GID={engine.stat().st_gid}\n"
    (tmp_path / ".env").write_text(own)
    make_env_file(tmp_path / ".env", engine)
    assert (tmp_path / ".env").read_text() == own


@pytest.mark.parametrize("line", ["DOCKER_GID=\n", "DOCKER_GID=64999\n", ""])
def test_another_group_than_the_sockets_is_refused_with_the_remedy(tmp_path: Path, engine: Path, line: str) -> None:
    (tmp_path / ".env").write_text(line)
    with pytest.raises(SystemExit, match=f"write DOCKER_GID={engine.stat().st_gid}"):
        make_env_file(tmp_path / ".env", engine)


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no Docker Engine"):
        make_env_file(tmp_path / ".env", tmp_path / "docker.sock")
    assert not (tmp_path / ".env").exists()


def test_a_port_that_is_taken_is_named_with_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"{port} \(SLIPWAY_CANARY_PORT\): Address already in use"):
            need_free_ports({"canary": port})
