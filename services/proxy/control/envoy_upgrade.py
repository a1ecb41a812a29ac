"""Restarts Envoy if it runs with an older bootstrap (its start configuration), as after an upgrade or a change of a
port.
"""

import json
import logging
from pathlib import Path

from services.proxy.control.keeper_socket import keeper_fault
from services.proxy.envoy.admin import EnvoyAdmin
from services.proxy.envoy.bootstrap import version_of
from shared.errors import Unavailable

log = logging.getLogger(__name__)


class EnvoyUpgrade:
    """Ends Envoy, at most once, if it runs with an older bootstrap (start configuration); supervisor or the container
    engine then starts it again with the present one. `folder` is `<home>/envoy`.
    """

    def __init__(self, admin: EnvoyAdmin, folder: Path) -> None:
        self._admin = admin
        self._folder = folder
        self._done = False

    async def step(self) -> None:
        """Compares the bootstrap with which Envoy was started to the one on disk, and ends Envoy if they differ. Once
        this has succeeded, further calls do nothing. Raises Unavailable, so that the next call tries again, if Envoy
        does not answer, or if Envoy must be ended but the keeper, without which Envoy does not start, does not answer.
        """
        if self._done:
            return
        document = json.loads((self._folder / "bootstrap.json").read_bytes())
        if await self._admin.bootstrap() != version_of(document["node"]):
            if fault := await keeper_fault(self._folder):
                raise Unavailable(f"Envoy runs with an earlier bootstrap and is not restarted: {fault}")
            log.warning("Envoy runs with an earlier bootstrap: it is ended, to be started with the present one")
            await self._admin.quit()
        self._done = True
