"""Settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """The shared settings: launcher and proxy must agree on Envoy's ports and folder."""
