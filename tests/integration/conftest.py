"""Fixtures that the integration tests share with the unit tests."""

from tests.unit.deployer.conftest import engine

__all__ = ["engine"]
