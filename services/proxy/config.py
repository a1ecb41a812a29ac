"""Defines the settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings of the proxy. They are those that all services share, with Envoy's ports and the home, because
    the launcher has to know these too.
    """
