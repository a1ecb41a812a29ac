"""A service in a container counts as ready by its port or its image's HEALTHCHECK."""

from typing import Any

import pytest

from services.build.executors.docker.container_service import is_checked, listens, port_of
from services.build.executors.executor import ServiceOrder

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 020011AC:0050 030011AC:8235 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:18EC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""


@pytest.mark.parametrize(
    ("port", "told"), [(8080, True), (5432, False), (80, False), (6379, True), (6380, False), (1, False)]
)
def test_only_what_listens_beyond_the_loopback_is_there(port: int, told: bool) -> None:
    assert listens(TABLE, port) is told


def test_a_port_is_the_manifests_else_the_images() -> None:
    image: dict[str, Any] = {"ExposedPorts": {"9000/tcp": {}, "5432/tcp": {}, "53/udp": {}}}
    assert port_of(order(7), image) == 7
    assert port_of(order(None), image) == 5432
    assert port_of(order(None), {"ExposedPorts": None}) is None


@pytest.mark.parametrize(
    ("test", "checked"), [(None, False), (["NONE"], False), ([], False), (["CMD-SHELL", "curl localhost"], True)]
)
def test_an_image_may_check_itself(test: list[str] | None, checked: bool) -> None:
    assert is_checked({"Healthcheck": {"Test": test}} if test is not None else {}) is checked


def order(port: int | None) -> ServiceOrder:
    return ServiceOrder("db", "image", None, {}, port, None, 60)
