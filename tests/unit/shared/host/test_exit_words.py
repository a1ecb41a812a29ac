"""Names of signals, also of those that have none."""

import pytest

from shared.host.exit_words import exit_words, is_signal, signal_name


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (34, "SIGRTMIN"), (40, "signal 40"), (64, "SIGRTMAX")])
def test_every_signal_has_words(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (137, "exit code 137 (SIGKILL)"), (168, "exit code 168 (signal 40)"), (255, "exit code 255")],
)
def test_an_exit_code_of_128_and_more_stands_for_a_signal(code: int, words: str) -> None:
    assert exit_words(code) == words
    assert is_signal(code) == ("(" in words)
