"""Defines the settings of the flags service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings of the flags service, which are those that all services share."""
