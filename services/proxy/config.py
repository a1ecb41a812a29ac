"""Settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """All of them are shared: the launcher and the proxy must agree on Envoy's ports and folder."""
