"""Creates what the containers share in the volume of secrets: the token, Redis' password and its configuration.

Runs in a container of its own before them, at each start of the stack; existing files are kept. A token on standard
input replaces the kept one; `changed` is printed if that was different.
"""

import os
import sys
from pathlib import Path

from shared.config import SharedSettings, secret_file
from stack.redis_conf import redis_conf

REDIS_PORT, REDIS_DATA = 6379, Path("/data")
OWNER_READS, GROUP_READS = 0o600, 0o640  # Redis' container runs as a user of its own, in our group


def main() -> None:
    folder = SharedSettings().secrets
    assert folder is not None
    token, kept = sys.stdin.read().strip(), folder / "token"
    if token and kept.exists() and secret_file(kept) != token:
        print("changed")
    if token:
        _write(kept, f"{token}\n", OWNER_READS)
    secret_file(kept)
    password = secret_file(folder / "redis" / "password")
    _write(folder / "redis" / "redis.conf", redis_conf("0.0.0.0", REDIS_PORT, REDIS_DATA, password), GROUP_READS)


def _write(path: Path, text: str, mode: int) -> None:
    """Replaces the file atomically: readers see the old text or the new one."""
    path.parent.mkdir(exist_ok=True, mode=0o750)
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    fresh.replace(path)


if __name__ == "__main__":
    main()
