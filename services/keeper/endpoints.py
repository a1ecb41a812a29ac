"""Reads the endpoints of Envoy's clusters from the files in `<home>/envoy/eds`."""

import logging
from pathlib import Path

from services.keeper.resource_file import Resource, read_file, serialized
from services.keeper.xds import ASSIGNMENT, ClusterLoadAssignment

log = logging.getLogger(__name__)


class EndpointFiles:
    """Reads endpoints, in the form of `ResourceFiles`. Envoy knows those in `notes.stable.json` as `notes.stable#5e1a`:
    the part from `#` on changes whenever the proxy changes the definition of the cluster.
    """

    type_url = ASSIGNMENT

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files_of(self, name: str) -> tuple[Path, ...]:
        return (self._folder / f"{name.partition('#')[0]}.json",)

    def read(self, name: str, *, held: bool) -> Resource | None:
        """Returns the endpoints in the file. Without a file that can be read, Envoy keeps the endpoints that it has. If
        it has none, returns an empty list, because Envoy does not start until it has an answer for each cluster.
        """
        try:
            return read_file(self.files_of(name)[0], ClusterLoadAssignment, cluster_name=name)
        except FileNotFoundError:
            pass
        except ValueError as error:
            log.error("%s", error)
        return None if held else Resource("none", serialized(ClusterLoadAssignment, {"cluster_name": name}))

    def is_alias(self, name: str) -> bool:
        return False
