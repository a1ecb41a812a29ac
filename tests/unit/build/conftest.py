"""One engine for all tests that need it; what they made on it is removed."""

from collections.abc import Iterator

import pytest

from tests.support.build.executors import Engine, found_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    yield from found_engine()
