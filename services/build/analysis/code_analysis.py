"""Analyses the source of a commit: complexity and length of functions (lizard), secrets (detect-secrets). The tools
read a fresh checkout and run in Python's isolated mode, so that a commit cannot bring its own tool."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from services.build.analysis.code_metrics import lizard_measures, secrets_measure
from services.build.analysis.exclusions import Exclusions
from services.build.analysis.public_values import without_public_values
from services.build.reports.metric import Measure
from services.build.system.sandboxed_tool import ToolFailed, answer
from shared.manifest import MIB, Gates

LARGEST_TEXT_BYTES = 10 * MIB  # lizard takes 20 s for a text of this size, detect-secrets 90 s
LIZARD, SECRETS = (str(Path(__file__).with_name(f"{tool}_tool.py")) for tool in ("lizard", "secrets"))
ALLOWLIST_COMMENTS = "detect_secrets.filters.allowlist.is_line_allowlisted"
DETECT_SECRETS = [SECRETS, "scan", "--all-files", "--no-verify", "--disable-filter", ALLOWLIST_COMMENTS]
# Comments in a file that make lizard skip it, and their replacements: a commit must not excuse itself from a gate.
EXCUSES = {b"lizard forgive": b"lizard-forgive", b"GENERATED CODE": b"GENERATED-CODE"}
LIZARD_GATES, SECRETS_GATES = ("complexity", "function_length", "comment_ratio"), ("secrets",)
_BINARY_BYTES = 8000  # git treats a file as binary if a NUL is among its first 8000 bytes


class Analysis:
    """Runs lizard and detect-secrets. Of the variables in `environment`, these tools get PATH alone."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {"PATH": environment.get("PATH", ""), "LC_ALL": "C.UTF-8"}

    async def measure(self, source: Path, exclusions: Exclusions, gates: Gates | None = None) -> dict[str, Measure]:
        """Analyses the files in the folder `source`; returns name of a gate → its measure (a figure with findings). It
        changes or deletes some of the files, so `source` must be a copy. Functions in excluded files do not count. A
        function above the gate's default threshold, or above a stricter one in `gates`, is a finding. If a tool fails,
        its measures hold the reason instead of a figure; if a text file exceeds 10 MiB, all measures do.
        """
        too_large = await asyncio.to_thread(_made_plain, source)
        if too_large is not None:
            shown = ascii(str(too_large.relative_to(source)))
            reason = (
                f"{shown} is a text of more than {LARGEST_TEXT_BYTES // MIB} MB, which is not read; keep it elsewhere"
            )
            return {gate: Measure(None, reason) for gate in (*LIZARD_GATES, *SECRETS_GATES)}
        prefix = f"{source.name}/"
        left_out = await asyncio.to_thread(_left_out, source, exclusions)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as listed:
            json.dump([f"{prefix}{path}" for path in left_out], listed)
            listed.flush()
            comments = ["comments"] if gates is not None and gates.comment_ratio is not None else []
            lizard = [LIZARD, source.name, listed.name, *comments]
            detect_secrets = [*DETECT_SECRETS, source.name]
            functions, secrets = await asyncio.gather(
                self._read(lizard, source, lambda text: lizard_measures(text, prefix, left_out, gates), LIZARD_GATES),
                self._read(
                    detect_secrets, source, lambda text: {"secrets": secrets_measure(text, prefix)}, SECRETS_GATES
                ),
            )
        return functions | secrets

    async def _read(
        self, tool: list[str], source: Path, parse: Callable[[str], dict[str, Measure]], gates: tuple[str, ...]
    ) -> dict[str, Measure]:
        try:
            command = [sys.executable, "-I", *tool]
            return await asyncio.to_thread(parse, await answer(command, source.parent, self._environment))
        except ToolFailed as failure:
            reason = str(failure)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"the tool's answer cannot be read ({type(error).__name__})"
        return {gate: Measure(None, reason) for gate in gates}


def _left_out(source: Path, exclusions: Exclusions) -> dict[str, tuple[str, str]]:
    """Returns, for each excluded file below `source`, path → (what excludes it, who set that). What excludes a file is
    a folder, a file name or a pattern.
    """
    paths = (
        os.path.relpath(os.path.join(folder, name), source) for folder, _, files in os.walk(source) for name in files
    )
    return {path: reason for path in paths if (reason := exclusions.reason(path)) is not None}


def _made_plain(source: Path) -> Path | None:
    """Prepares the files below `source` for the analysis tools; returns the path of a text file above 10 MiB, or None.
    It deletes links and large binary files. It replaces bytes that are not UTF-8, values that only look like secrets,
    and comments that tell a tool to skip code.
    """
    for folder, folders, files in os.walk(source):
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                path.unlink()
            elif path.is_file() and not _file_made_plain(path):
                return path
    return None


def _file_made_plain(path: Path) -> bool:
    """Prepares one file for the analysis tools: deletes it if it is binary and above 10 MiB, else replaces what would
    mislead the tools. Returns False, without a change, if it is a text above 10 MiB.
    """
    large = path.stat().st_size > LARGEST_TEXT_BYTES
    with path.open("rb") as file:
        data = before = file.read(_BINARY_BYTES if large else -1)
    binary = b"\0" in data[:_BINARY_BYTES]
    if large:
        if binary:
            path.unlink()
        return binary
    for excuse, instead in EXCUSES.items():
        data = data.replace(excuse, instead)
    if not binary:
        data = without_public_values(path.name, data.decode(errors="replace").encode())
    if data != before:
        path.chmod(0o600)
        path.write_bytes(data)
    return True
