"""Defines the settings of the monitor."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings of the monitor, which are those that all services share."""
