"""Settings of the monitor service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Has no settings besides the shared ones."""
