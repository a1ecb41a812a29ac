"""Envoy's limits are said, with the remedy, before they are reached."""

import resource

import pytest

from services.proxy.envoy import limits
from services.proxy.envoy.limits import FileLimit, read_file_limit


@pytest.mark.parametrize(
    ("files", "visitors", "instances"),
    [(1_024, 256, 412), (20_000, 5_000, 9_900), (1_000_000, 20_000, 499_900), (100, 25, 0)],
)
def test_visitors_and_instances_share_the_files_that_envoy_may_open(files: int, visitors: int, instances: int) -> None:
    limit = FileLimit(files)

    assert (limit.visitors, limit.instances) == (visitors, instances)
    # A visitor's connection causes another one to an instance, and each instance has one of a health check.
    assert limit.instances == 0 or 2 * limit.visitors + limit.instances < files


@pytest.mark.parametrize(("instances", "refused", "warned"), [(0, False, False), (330, False, True), (412, True, True)])
def test_what_is_close_is_warned_of_and_what_is_reached_refuses(instances: int, refused: bool, warned: bool) -> None:
    limit = FileLimit(1_024)

    assert (limit.refusal(instances) is not None, limit.warning(instances) is not None) == (refused, warned)


def test_the_remedy_is_named() -> None:
    refusal = FileLimit(1_024).refusal(412)

    assert refusal is not None
    assert refusal.startswith("Envoy may open 1024 files, enough for 412 instances, and has 412: raise the hard limit")


def test_the_limit_is_the_hard_one() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    assert read_file_limit().files == (limits.UNLIMITED if hard == resource.RLIM_INFINITY else hard)
