"""The engine's client, where no engine is."""

import pytest

from stack.compose import engine


def test_no_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert not engine.answers()


def test_without_the_client_no_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not engine.answers()
    with pytest.raises(engine.EngineError, match=r"docker info: .*No such file"):
        engine.docker("info")


def test_a_refusal_is_told_in_the_clients_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "no-such-scheme")
    with pytest.raises(engine.EngineError, match="no-such-scheme"):
        engine.docker("ps")
