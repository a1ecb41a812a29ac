"""Starts the keeper: `python -m services.keeper <home>/envoy`."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from services.keeper.keeper import Keeper

OWNER_ONLY = 0o077


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(OWNER_ONLY)
    folder = Path(sys.argv[1])
    asyncio.run(Keeper(folder / "eds").run(folder / "keeper.sock"))


if __name__ == "__main__":
    main()
