"""Settings of the proxy service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Has no settings besides the shared ones: launcher and proxy must agree on Envoy's ports and folder."""
