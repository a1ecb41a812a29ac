"""Restarts an Envoy that was started with an earlier bootstrap: after an upgrade, or with another setting of a port."""

import json
import logging
from pathlib import Path

from services.proxy.envoy.admin import EnvoyAdmin
from services.proxy.envoy.bootstrap import version_of
from services.proxy.envoy.keeper_socket import keeper_fault
from shared.errors import Unavailable

log = logging.getLogger(__name__)


class EnvoyUpgrade:
    """Ends, once, an Envoy that was started with an earlier bootstrap; supervisor or the container engine starts it
    again with the present one. `folder` is `<home>/envoy`."""

    def __init__(self, admin: EnvoyAdmin, folder: Path) -> None:
        self._admin = admin
        self._folder = folder
        self._done = False

    async def step(self) -> None:
        """Compares the bootstrap that Envoy was started with with the one on disk, and ends Envoy if they differ. After
        one comparison, further calls do nothing. Raises Unavailable if Envoy does not answer, and if it would have to
        be ended while the keeper, without which it does not start, is away; the next call then tries again.
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
