"""Settings of the flags service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Nothing of its own yet."""
