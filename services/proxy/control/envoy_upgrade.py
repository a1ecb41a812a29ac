"""Restarts an Envoy that runs with an older bootstrap (its start configuration), as after an upgrade or a change of a
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
    """Ends, at most once, an Envoy that runs with an older bootstrap; supervisor or the container engine then starts it
    again with the present one. `folder` is `<home>/envoy`.
    """

    def __init__(self, admin: EnvoyAdmin, folder: Path) -> None:
        self._admin = admin
        self._folder = folder
        self._done = False

    async def step(self) -> None:
        """Compares the bootstrap with which Envoy was started to the one on disk, and ends Envoy if they differ. After
        one comparison, further calls do nothing. Raises Unavailable if Envoy does not answer. Raises it also if Envoy
        must be ended but the keeper, without which Envoy does not start, is unavailable. The next call then tries
        again.
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
