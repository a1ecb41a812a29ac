"""Reads the certificates of host names, with their keys, from the files in `<home>/envoy/certificates`."""

import logging
import re
from pathlib import Path

from services.keeper.resource_file import Resource, read_file
from services.keeper.xds import SECRET, Secret

log = logging.getLogger(__name__)

# A visitor chooses the name, and it becomes part of a path.
HOST_NAME = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
LONGEST = 253
GONE = Resource("", None)


class CertificateFiles:
    """Reads certificates, in the form of `ResourceFiles`. The name is that of the host for which a visitor asks (SNI).
    The file of the host comes before that of a wildcard: `a.example.com.json`, then `_.example.com.json`.
    """

    type_url = SECRET

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files_of(self, name: str) -> tuple[Path, ...]:
        host = name.lower()
        if len(host) > LONGEST or not HOST_NAME.fullmatch(host):
            return ()
        _, dot, domain = host.partition(".")
        return tuple(self._folder / f"{each}.json" for each in (host, f"_.{domain}" if dot else "") if each)

    def read(self, name: str, *, held: bool) -> Resource | None:
        """Returns the host's certificate. If there is none, Envoy ends the visitor's handshake, and asks again for the
        next visitor. If the file cannot be read, Envoy keeps the certificate that it has.
        """
        for path in self.files_of(name):
            try:
                return read_file(path, Secret, name=name)
            except FileNotFoundError:
                continue
            except ValueError as error:
                log.error("%s", error)
                return None if held else GONE
        return GONE

    def is_alias(self, name: str) -> bool:
        return not (self._folder / f"{name}.json").exists()
