"""Defines the settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Has no settings besides the shared ones, which include Envoy's ports and the home, as the launcher must know
    these too.
    """
