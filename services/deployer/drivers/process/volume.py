"""Makes, lists and removes volumes of apps that run as processes: folders in `<home>/volumes/<app>/<environment>`."""

import asyncio
import contextlib
import shutil
from pathlib import Path

from services.deployer.drivers.driver import DriverError, InstanceSpec


class FolderVolumes:
    """Implements `Volumes` for folders below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def names(self, app: str, environment: str) -> list[str]:
        folder = self._root / app / environment
        return await asyncio.to_thread(
            lambda: sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        )

    async def remove(self, app: str, environment: str, name: str) -> None:
        if name in await self.names(app, environment):
            await asyncio.to_thread(self._remove, self._root / app / environment / name)

    def _remove(self, path: Path) -> None:
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise DriverError(f"the volume {path} cannot be removed: {error.strerror}; remove it by hand") from error
        for folder in (path.parent, path.parent.parent):
            with contextlib.suppress(OSError):  # the folder holds another volume
                folder.rmdir()


def make_volumes(root: Path, spec: InstanceSpec) -> dict[str, str]:
    """Creates the missing volumes of an instance; returns their paths by name of environment variable. Raises
    OSError.
    """
    paths = {}
    for volume in spec.volumes:
        path = root / volume.app / volume.environment / volume.name
        path.mkdir(parents=True, exist_ok=True)
        paths[volume.variable] = str(path)
    return paths
