"""Defines the settings of the flags service."""

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Has no settings besides the shared ones."""
