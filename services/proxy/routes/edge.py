"""Defines the settings of the public edge that people set on an app, not in a commit: its further host names, and the
paths that lead to other apps.
"""

from pydantic import Field

from shared.models import AppName, Model

MOST_HOSTS = 100
MOST_PATHS = 50
CATCH_ALL = "*"
"""Stands, among the host names that an app has, for all those that no app has."""


class MappedPath(Model):
    """Sends the requests for a path to another app. That app's own canary, cookie and override header apply."""

    prefix: str = Field(
        max_length=200, description="`/api` means `/api` and what begins with `/api/`; the longest prefix counts."
    )
    app: AppName = Field(description="Name of the app that gets the requests.")
    strip: bool = Field(False, description="True: the app gets `/x` for `/api/x`, and the prefix as header.")


class EdgeSettings(Model):
    """Holds the edge settings of an app. A request body replaces all of them; a field that is left out gets its
    default.
    """

    hosts: list[str] = Field(
        [],
        max_length=MOST_HOSTS,
        description="Host names in addition to the manifest's; `*.example.com` means all names that end so.",
    )
    canonical_host: str = Field(
        "", description="Host name to which requests for the app's other names are redirected (308); empty: none."
    )
    catch_all: bool = Field(False, description="True: the app gets the requests for host names that no app has.")
    paths: list[MappedPath] = Field([], max_length=MOST_PATHS, description="Paths of these hosts that other apps get.")

    @property
    def claims(self) -> list[str]:
        """Returns the host names and wildcards that the app has by these settings, `*` for `catch_all`."""
        canonical = [self.canonical_host] if self.canonical_host else []
        return [*self.hosts, *canonical, *([CATCH_ALL] if self.catch_all else [])]
