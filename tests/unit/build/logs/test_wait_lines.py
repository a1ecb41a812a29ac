"""Tests the lines that a pusher reads while a build waits for something."""

from services.build.logs.wait_lines import WaitLines


def test_a_change_is_said_at_once_and_the_same_again_every_15_s() -> None:
    said: list[str] = []
    clock = iter([100, 101, 115, 116, 117, 131.9, 132])
    lines = WaitLines(said.append, lambda: next(clock))
    for reason, progress in (
        ("a", "1 s of 60"),
        ("a", "15 s of 60"),
        ("a", "16 s of 60"),
        ("b", "17 s of 60"),
        ("b", ""),
        ("b", ""),
    ):
        lines(reason, progress)
    assert said == [
        "      1 s  a",
        "     16 s  still waiting (16 s of 60): a",
        "     17 s  b",
        "     32 s  still waiting: b",
    ]
