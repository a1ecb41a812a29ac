"""Defines the settings of the monitor."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Has no settings besides the shared ones."""
