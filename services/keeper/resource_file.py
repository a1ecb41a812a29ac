"""Reads the files that the proxy service writes for Envoy, and converts them into messages."""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from google.protobuf.json_format import ParseDict, ParseError

log = logging.getLogger(__name__)


class Resource(NamedTuple):
    """Holds one of Envoy's resources, ready to be sent to Envoy."""

    version: str
    """The field `version_info` of the file, a hash of its content."""
    message: bytes | None
    """The serialized resource; None tells Envoy that there is none of this name."""


class ResourceFiles(Protocol):
    """Reads the resources of one type."""

    type_url: str

    def files_of(self, name: str) -> tuple[Path, ...]:
        """Returns the files on which the resource depends; the first one that exists holds it."""

    def read(self, name: str, *, held: bool) -> Resource | None:
        """Returns what Envoy must be sent; None if it keeps what it has. `held` is True if it has the resource."""

    def is_alias(self, name: str) -> bool:
        """Returns True if visitors chose the name, of which there may be any number, and no file bears it."""


def read_file(path: Path, message: Any, **fields: Any) -> Resource:
    """Returns the only resource in the file as a `message`, with these fields set. Raises FileNotFoundError, and
    ValueError if the file cannot be read.
    """
    try:
        document: Any = json.loads(path.read_bytes())
        [content] = document["resources"]
        given = {key: value for key, value in content.items() if key != "@type"} | fields
        return Resource(document["version_info"], serialized(message, given))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}); Envoy keeps what it has") from None


def serialized(message: Any, fields: dict[str, Any]) -> bytes:
    """Returns the message with these fields in protobuf's binary form."""
    data: bytes = ParseDict(fields, message()).SerializeToString(deterministic=True)
    return data
