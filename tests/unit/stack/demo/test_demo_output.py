"""The demo writes plain lines to a file; a terminal also gets a line that moves while it waits."""

import io
import time

import pytest

from stack.demo.demo_output import DemoOutput


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_plain_lines() -> None:
    out = io.StringIO()
    output = DemoOutput(out)
    with output.busy("canary live"):
        pass
    output.passed("canary live", "1.2 s")
    assert out.getvalue().splitlines() == ["  .... canary live", f"  ok   {'canary live':34} 1.2 s"]


def test_a_terminal_gets_a_line_that_moves_and_then_goes() -> None:
    out = Terminal()
    with DemoOutput(out).busy("canary live"):
        time.sleep(0.25)
    assert "\r  |    canary live" in out.getvalue()
    assert out.getvalue().endswith("\r\033[K")


def test_the_moving_line_goes_when_something_fails() -> None:
    out = Terminal()
    with pytest.raises(OSError, match="no"), DemoOutput(out).busy("canary live"):
        raise OSError("no")
    assert out.getvalue().endswith("\r\033[K")
