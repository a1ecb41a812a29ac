"""Prints the demo's steps in a terminal, each as a line with its running time."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

SPINNER = "|/-\\"
WIDTH = 34


class DemoOutput:
    """Prints an animated line in a terminal, and plain lines to a file or pipe."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._watched = out.isatty()

    def say(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    @contextlib.contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """Shows the step as running during the block. The caller then calls `passed` or `failed` to print its
        result.
        """
        if not self._watched:
            self.say(f"  .... {title}")
            yield
            return
        ended = threading.Event()
        spinner = threading.Thread(target=self._spin, args=(title, ended), daemon=True)
        spinner.start()
        try:
            yield
        finally:
            ended.set()
            spinner.join()
            self._out.write("\r\033[K")

    def passed(self, title: str, measured: str) -> None:
        self.say(f"  ok   {title:{WIDTH}} {measured}")

    def failed(self, title: str, why: str) -> None:
        self.say(f"  FAIL {title:{WIDTH}} {why}")

    def _spin(self, title: str, ended: threading.Event) -> None:
        started = time.monotonic()
        step = 0
        while not ended.wait(0.1):
            seconds = time.monotonic() - started
            self._out.write(f"\r  {SPINNER[step % len(SPINNER)]}    {title:{WIDTH}} {seconds:.1f} s")
            self._out.flush()
            step += 1
