"""Defines the settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings of the proxy: only those that all services share. Envoy's ports and the home (the folder with
    the platform's data) are among them, because the launcher, which prepares Envoy's files, needs them too.
    """
