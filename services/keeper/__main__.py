"""Starts the keeper: `python -m services.keeper <home>/envoy`."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from services.keeper.keeper import Keeper
from services.keeper.log_limit import keep_short

OWNER_ONLY = 0o077


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(OWNER_ONLY)
    asyncio.run(_run(Path(sys.argv[1])))


async def _run(folder: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        shortening = tasks.create_task(keep_short(folder))
        await Keeper(folder).run(folder / "keeper.sock")
        shortening.cancel()


if __name__ == "__main__":
    main()
