"""Reads the files in `<home>/envoy/eds`, which the proxy service writes, and converts them into messages for Envoy."""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError

from services.keeper.xds import ClusterLoadAssignment

log = logging.getLogger(__name__)


class Assignment(NamedTuple):
    """Holds the endpoints of one of Envoy's clusters, ready to be sent to Envoy."""

    version: str
    """The field `version_info` of the file, a hash of its content."""
    message: bytes
    """A serialized ClusterLoadAssignment."""


def file_of(resource: str) -> str:
    """Returns the name of the file with the endpoints that Envoy knows as `resource`: `notes.stable.json` for
    `notes.stable#5e1a`. The part from `#` on changes whenever the proxy changes the definition of the cluster.
    """
    return f"{resource.partition('#')[0]}.json"


def read(folder: Path, resource: str) -> Assignment | None:
    """Returns the endpoints in the resource's file in `folder`; None if the file is missing or cannot be read."""
    path = folder / file_of(resource)
    try:
        document: Any = json.loads(path.read_bytes())
        [content] = document["resources"]
        fields = {key: value for key, value in content.items() if key != "@type"} | {"cluster_name": resource}
        return Assignment(document["version_info"], _message(fields))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ParseError):
        log.exception("%s cannot be read; Envoy keeps the endpoints that it has", path)
        return None


def without_endpoints(resource: str) -> Assignment:
    """Returns an assignment without endpoints, for a resource that has no file, because Envoy does not start until it
    has an answer for each of its clusters.
    """
    return Assignment("none", _message({"cluster_name": resource}))


def _message(fields: dict[str, Any]) -> bytes:
    serialized: bytes = ParseDict(fields, ClusterLoadAssignment()).SerializeToString(deterministic=True)
    return serialized
