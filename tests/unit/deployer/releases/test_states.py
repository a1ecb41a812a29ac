"""Every pair of states of environments, releases and instances, and what a transition notes."""

from itertools import product

import pytest

from services.deployer.releases import instance as instances
from services.deployer.releases import release as releases
from services.deployer.releases.environment import ENVIRONMENT_TRANSITIONS, EnvironmentState, Lifecycle
from services.deployer.releases.instance import INSTANCE_TRANSITIONS, may_restart_at
from services.deployer.releases.release import RELEASE_TRANSITIONS
from shared.models import InstanceState, ReleaseState
from shared.state import IllegalTransition
from tests.support.deployer.fakes import T0, a_release, after, an_instance

R, S, E = ReleaseState, InstanceState, EnvironmentState
RELEASE_PAIRS = {
    *product([R.PENDING], [R.STARTING, R.FAILED, R.RETIRED, R.ROLLED_BACK]),
    *product([R.STARTING], [R.LIVE, R.FAILED, R.RETIRED, R.ROLLED_BACK]),
    *product([R.LIVE], [R.RETIRED, R.ROLLED_BACK]),
}
INSTANCE_PAIRS = {
    *product([S.STARTING], [S.READY, S.FAILED, S.STOPPED]),
    *product([S.READY], [S.DRAINING, S.UNHEALTHY, S.FAILED, S.STOPPED]),
    *product([S.UNHEALTHY], [S.DRAINING, S.READY, S.FAILED, S.STOPPED]),
    (S.DRAINING, S.STOPPED),
}


@pytest.mark.parametrize(("old", "new"), [*product(R, R)])
def test_every_pair_of_release_states(old: ReleaseState, new: ReleaseState) -> None:
    release = a_release(1, old)
    if (old, new) in RELEASE_PAIRS:
        changed = releases.moved(release, new, "because", after(9))
        assert (changed.state, changed.reason) == (new, "because")
        assert changed.history[-1] == releases.ReleaseTransition(state=new, reason="because", at=after(9))
        assert changed.ended_at == (after(9) if new in releases.ENDED else None)
    else:
        with pytest.raises(IllegalTransition):
            releases.moved(release, new, "because", after(9))
    assert set(RELEASE_TRANSITIONS) == set(R)


@pytest.mark.parametrize(("old", "new"), [*product(S, S)])
def test_every_pair_of_instance_states(old: InstanceState, new: InstanceState) -> None:
    instance = an_instance(a_release(1), 1, old)
    if (old, new) in INSTANCE_PAIRS:
        changed = instances.moved(instance, new, "because", after(9))
        assert (changed.state, changed.reason, changed.changed_at) == (new, "because", after(9))
    else:
        with pytest.raises(IllegalTransition):
            instances.moved(instance, new, "because", after(9))
    assert set(INSTANCE_TRANSITIONS) == set(S)


ENVIRONMENT_PAIRS = {(E.RUNNING, E.STOPPED), (E.STOPPED, E.RUNNING), *product([E.RUNNING, E.STOPPED], [E.REMOVING])}


@pytest.mark.parametrize(("old", "new"), [*product(E, E)])
def test_every_pair_of_environment_states(old: EnvironmentState, new: EnvironmentState) -> None:
    before = Lifecycle(state=old, reason="before", since=T0)
    if (old, new) in ENVIRONMENT_PAIRS:
        assert before.moved(new, "because", after(9)) == Lifecycle(state=new, reason="because", since=after(9))
    elif old is new:
        assert before.moved(new, "because", after(9)) == before, "a repeated request changes nothing"
    else:
        with pytest.raises(IllegalTransition):
            before.moved(new, "because", after(9))
    assert set(ENVIRONMENT_TRANSITIONS) == set(E)


@pytest.mark.parametrize(
    ("crashes", "delay_s"), [(0, 0.5), (1, 1), (2, 2), (5, 16), (6, 30), (50, 30)], ids=lambda value: str(value)
)
def test_restarts_wait_longer_with_each_crash_in_a_row(crashes: int, delay_s: float) -> None:
    failed = an_instance(a_release(1), 1, S.FAILED, crashes=crashes, changed_at=T0)
    assert may_restart_at(failed, failed.memory) == after(delay_s)


def test_an_instance_that_was_well_for_a_minute_begins_a_new_row() -> None:
    failed = an_instance(a_release(1), 1, S.FAILED, crashes=6, ready_at=T0, changed_at=after(60))
    assert may_restart_at(failed, 2 * failed.memory) == after(60.5)
    assert instances.crashes_in_a_row(failed) == 1


def test_more_memory_after_an_oom_kill_needs_no_delay() -> None:
    failed = an_instance(a_release(1), 1, S.FAILED, crashes=5, changed_at=T0, oom_killed=True)
    assert may_restart_at(failed, failed.memory + 1) == T0
    assert may_restart_at(failed, failed.memory) == after(16)
