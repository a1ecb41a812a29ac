"""Decides which Linux capabilities a container keeps, by the user as which its image starts. Pure."""

from collections.abc import Mapping
from typing import Any

# One of nginx, Apache with PHP, lighttpd, Redis and gosu needed each of these (decision 35): to give files to the user
# that serves, to open that user's files, to become that user, to send it SIGTERM (as the init does, too), and to run a
# program whose file has the capability for low ports, such as Caddy.
ROOT_KEEPS = ("CHOWN", "DAC_OVERRIDE", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
ROOT = ("", "0", "root")
PREFIX = "CAP_"  # prefix of each name in the answers of newer engines


def starts_as_root(image: Mapping[str, Any]) -> bool:
    """Returns True if containers of the image start as root. `image` is the engine's inspection of the image, where no
    user means root, and a group may follow the user.
    """
    user = (image.get("Config") or {}).get("User") or ""
    return user.partition(":")[0] in ROOT


def capabilities_of(container: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the Linux capabilities that a container of this platform keeps, sorted. `container` is the engine's
    inspection of it.
    """
    kept = container.get("HostConfig", {}).get("CapAdd") or ()
    return tuple(sorted(each.removeprefix(PREFIX) for each in kept))
