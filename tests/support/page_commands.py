"""Runs the commands of a page of the docs as they are written there."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
MOVE = DOCS / "operate" / "move-and-back-up.md"


def commands_of(page: Path, heading: str) -> str:
    """Returns the commands of the first block for `sh` below the heading."""
    section = page.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"^( *)```sh\n(.*?)^\1```", section, re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no commands below {heading}"
    return textwrap.dedent(found[2])


def run_page(page: Path, heading: str, **variables: str) -> str:
    """Runs these commands with `variables` in their environment, and returns what they print. One that fails fails the
    test.
    """
    done = subprocess.run(
        ["sh", "-eu", "-c", commands_of(page, heading)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{heading}: {done.stdout}{done.stderr}"
    return done.stdout
