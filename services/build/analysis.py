"""The platform's own look at the source: complexity and length of functions (lizard), secrets (detect-secrets).

Both read a fresh checkout of the commit, which no step has touched, and are run isolated (`-I`): a commit cannot bring
its own tool.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from services.build.figure import Measure
from services.build.measures import lizard_measures, secrets_measure

TIMEOUT_S = 120.0
# Minified files are not source; nobody reads their functions.
LIZARD = ["lizard", "--csv", "--no-gitignore", "-i", "-1", "-x", "*.min.js"]
ALLOWLIST_COMMENTS = "detect_secrets.filters.allowlist.is_line_allowlisted"
DETECT_SECRETS = ["detect_secrets", "scan", "--all-files", "--no-verify", "--disable-filter", ALLOWLIST_COMMENTS]
# Comments by which a file would excuse itself from lizard, and what is read instead: a commit is not its own judge.
EXCUSES = {b"lizard forgive": b"lizard-forgive", b"GENERATED CODE": b"GENERATED-CODE"}


class Analysis:
    """`environment` is what the tools are given: PATH, and no more than that."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {"PATH": environment.get("PATH", ""), "LC_ALL": "C.UTF-8"}

    async def measure(self, source: Path) -> dict[str, Measure]:
        """The measures `complexity`, `function_length` and `secrets` of the files in `source`, whose links and
        excuses are removed. A tool that fails leaves no figure."""
        await asyncio.to_thread(_remove_links_and_excuses, source)
        functions, secrets = await asyncio.gather(self._run(LIZARD, source), self._run(DETECT_SECRETS, source))
        prefix = f"{source.name}/"
        both = _read(functions, lambda text: lizard_measures(text, prefix), "complexity", "function_length")
        return both | _read(secrets, lambda text: {"secrets": secrets_measure(text, prefix)}, "secrets")

    async def _run(self, tool: list[str], source: Path) -> str | None:
        """What the tool prints, or None if it failed."""
        command = [sys.executable, "-I", "-m", *tool, source.name]
        try:
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                cwd=source.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _read(output: str | None, parse: Callable[[str], dict[str, Measure]], *gates: str) -> dict[str, Measure]:
    if output is None:
        return {gate: Measure(None, "the tool did not run to its end") for gate in gates}
    try:
        return parse(output)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return {gate: Measure(None, f"the tool's answer cannot be read ({type(error).__name__})") for gate in gates}


def _remove_links_and_excuses(source: Path) -> None:
    """A link may lead anywhere, to a device even; its target, if it is in the commit, is read itself."""
    for folder, folders, files in os.walk(source):
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                path.unlink()
            elif path.is_file():
                data = before = path.read_bytes()
                for excuse, instead in EXCUSES.items():
                    data = data.replace(excuse, instead)
                if data != before:
                    path.chmod(0o600)
                    path.write_bytes(data)
