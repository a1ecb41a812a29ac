"""Settings of the monitor service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Nothing of its own yet."""
