"""Creates the files in the shared volume of secrets: the token, a key, Redis' password, and its configuration. Existing
files stay. It runs in a container of its own at each start, before all others. A token on standard input replaces the
stored one; if they differ, it prints `changed`.
"""

import sys
from pathlib import Path

from shared.config import SharedSettings, secret_file
from stack.private_file import write_private
from stack.redis_conf import redis_conf

REDIS_PORT, REDIS_DATA = 6379, Path("/data")
GROUP_READS = 0o640  # Redis' container runs as a user of its own, in this user's group


def main() -> None:
    folder = SharedSettings().secrets
    assert folder is not None
    token, kept = sys.stdin.read().strip(), folder / "token"
    if token and kept.exists() and secret_file(kept) != token:
        print("changed")
    if token:
        folder.mkdir(exist_ok=True, mode=0o750)
        write_private(kept, f"{token}\n")
    secret_file(kept)
    secret_file(folder / "key")  # for the monitor, whose own home is empty after each start
    password = secret_file(folder / "redis" / "password")
    conf = redis_conf("0.0.0.0", REDIS_PORT, REDIS_DATA, password)
    write_private(folder / "redis" / "redis.conf", conf, GROUP_READS)


if __name__ == "__main__":
    main()
