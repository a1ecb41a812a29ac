"""Policy: from a world to a list of actions."""

from dataclasses import replace
from typing import Any

import pytest

from services.deployer.plan.action import (
    AbortRollout,
    AddInstance,
    AutoRollback,
    Change,
    DropInstance,
    MoveInstance,
    MoveRelease,
    OpenRollout,
    RecordAddress,
    RecordEnd,
    StartInstance,
    StopInstance,
    Switch,
    SyncProxy,
    Wait,
)
from services.deployer.plan.observe import InstanceHealth, World
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import is_at_rest, plan_work
from services.deployer.releases.environment import Locked, Override
from services.deployer.releases.release import Release
from services.deployer.releases.rollout_request import rollout_request
from shared.canary import Canary
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import (
    LIMITS,
    T0,
    a_failure,
    a_manifest,
    a_release,
    a_status,
    a_world,
    acts,
    after,
    an_instance,
)

R, S = ReleaseState, InstanceState
OLD, NEW = a_release(1), a_release(2, R.STARTING)
WELL, ILL = InstanceHealth(0, "GET /up answered"), InstanceHealth(3, "GET /up answered 500")
NOW = after(100)  # long after what is live went live


def canary(number: int, state: ReleaseState, **changes: object) -> Release:
    return a_release(number, state, environment=Environment.CANARY, **changes)


# --- the queue ------------------------------------------------------------------------------------------------------


def test_a_pending_release_starts_when_no_other_does() -> None:
    world = a_world([OLD, a_release(2, R.PENDING)], [an_instance(OLD, 1)], routable=["notes-r1-1"])
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.STARTING, "its instances are being started")]


def test_the_newest_that_waits_supersedes_the_others_and_what_has_no_visitors_yet() -> None:
    pending = [a_release(3, R.PENDING), a_release(4, R.PENDING)]
    world = a_world([NEW, *pending], [an_instance(NEW, 1, S.STARTING)])
    assert plan(world, LIMITS, after(5)) == [
        MoveRelease("notes-r3", R.RETIRED, "superseded by notes-r4 before it started", superseded_by="notes-r4"),
        MoveRelease(
            "notes-r2",
            R.RETIRED,
            "superseded by notes-r4 before any of its instances was routable",
            superseded_by="notes-r4",
        ),
    ]


@pytest.mark.parametrize(
    ("changes", "routable", "is_superseded"),
    [
        ({}, [], True),
        ({"switched_at": T0}, ["notes-r2-1", "notes-r2-2"], False),
        ({}, ["notes-r2-1"], False),
        ({"replaces_faulty": "notes-r1"}, [], False),
    ],
)
def test_what_visitors_may_have_and_an_automatic_rollback_are_not_superseded(
    changes: dict[str, Any], routable: list[str], is_superseded: bool
) -> None:
    manifest = a_manifest(replicas=2)
    starting = a_release(2, R.STARTING, manifest=manifest, **changes)
    instances = [an_instance(starting, 1), an_instance(starting, 2)]
    world = a_world([starting, a_release(3, R.PENDING)], instances, routable=routable)
    ended = [each.release for each in acts(world, after(5)) if isinstance(each, MoveRelease) and each.superseded_by]
    assert ended == (["notes-r2"] if is_superseded else [])


# --- from starting to live ------------------------------------------------------------------------------------------


def test_as_many_instances_are_added_as_are_wanted() -> None:
    release = a_release(1, R.STARTING, manifest=a_manifest(replicas=2))
    assert plan(a_world([release], []), LIMITS, NOW) == [AddInstance("notes-r1")] * 2


def test_the_live_number_is_inherited_within_the_manifests_bounds() -> None:
    release = a_release(1, R.STARTING, manifest=a_manifest(max_replicas=3))
    world = a_world([release], [], override=Override(replicas=9))
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")] * 3


def test_an_instance_without_a_process_is_run() -> None:
    world = a_world([NEW], [an_instance(NEW, 1, S.STARTING)], statuses={})
    assert acts(world, NOW) == []
    assert list(plan_work(world)) == [StartInstance("notes-r2-1")]


def test_the_address_of_a_process_is_noted() -> None:
    instance = an_instance(NEW, 1, S.STARTING, address="")
    world = a_world([NEW], [instance], statuses={instance.id: a_status(instance, address="127.0.0.1:1")})
    assert plan(world, LIMITS, NOW) == [RecordAddress("notes-r2-1", "127.0.0.1:1")]


def test_one_that_ended_and_has_no_address_any_more_keeps_the_one_it_had() -> None:
    instance = an_instance(OLD, 1)
    ended = {instance.id: a_status(instance, address="", running=False, exit_code=3)}
    changes = plan(a_world([OLD], [instance], statuses=ended), LIMITS, NOW)
    assert [type(change) for change in changes] == [MoveInstance]


def test_new_instances_become_ready_together() -> None:
    release = a_release(2, R.STARTING, manifest=a_manifest(replicas=2))
    world = a_world([release], [an_instance(release, n, S.STARTING) for n in (1, 2)], health={"notes-r2-1": WELL})
    assert acts(world, after(5)) == []
    both = replace(world, health={"notes-r2-1": WELL, "notes-r2-2": WELL})
    reason = "its health path answers"
    assert plan(both, LIMITS, after(5)) == [
        MoveInstance("notes-r2-1", S.READY, reason),
        MoveInstance("notes-r2-2", S.READY, reason),
    ]


def test_old_ones_stay_until_the_proxy_says_that_the_new_ones_are_routable() -> None:
    world = a_world([OLD, NEW], [an_instance(OLD, 1), an_instance(NEW, 1)], routes=None)
    assert acts(world, NOW) == []
    assert list(plan_work(world)) == [SyncProxy()]
    routable = replace(world, routes={"notes-r2-1": RouteState.ROUTABLE, "notes-r1-1": RouteState.ROUTABLE})
    assert plan(routable, LIMITS, NOW) == [Switch("notes-r2")]


def test_the_order_after_the_switch_is_drain_then_live_then_stop() -> None:
    switched = NEW.model_copy(update={"switched_at": T0})
    old, new = an_instance(OLD, 1), an_instance(NEW, 1)
    world = a_world([OLD, switched], [old, new], routable=["notes-r1-1", "notes-r2-1"])
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "replaced by notes-r2")]

    draining = old.model_copy(update={"state": S.DRAINING})
    world = a_world([OLD, switched], [draining, new], routes=None)
    assert acts(world, NOW) == []
    assert list(plan_work(world)) == [SyncProxy()]

    world = replace(world, routes={"notes-r1-1": RouteState.DRAINING, "notes-r2-1": RouteState.ROUTABLE})
    assert plan(world, LIMITS, NOW) == [
        MoveRelease("notes-r2", R.LIVE, "its instances are in the route, the old ones out of it"),
        MoveRelease("notes-r1", R.RETIRED, "replaced by notes-r2"),
    ]
    assert list(plan_work(world)) == [SyncProxy()]

    live, retired = a_release(2), a_release(1, R.RETIRED)
    gone = a_world([retired, live], [draining, new], routable=["notes-r2-1"])
    assert plan(gone, LIMITS, NOW) == []
    assert list(plan_work(gone)) == [StopInstance("notes-r1-1")]
    stopped = replace(gone, stopped=frozenset({"notes-r1-1"}))
    assert plan(stopped, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.STOPPED, "a reason"), RecordEnd("notes-r1-1")]


def test_what_a_release_waits_for_is_said_once() -> None:
    world = a_world([OLD, NEW], [an_instance(OLD, 1), an_instance(NEW, 1)], routes=None, waits_for="no proxy")
    assert plan(world, LIMITS, NOW) == [Wait("notes-r2", "no proxy")]
    said = NEW.model_copy(update={"reason": "no proxy"})
    assert plan(replace(world, releases={"notes-r1": OLD, "notes-r2": said}), LIMITS, NOW) == []


# --- failing ----------------------------------------------------------------------------------------------------------


def failing(world: World, **facts: object) -> list[object]:
    return list(plan(replace(world, **facts), LIMITS, after(40)))  # type: ignore[arg-type]


def test_an_instance_that_ends_fails_and_counts_against_its_release() -> None:
    instance = an_instance(NEW, 1, S.STARTING)
    world = a_world([NEW], [instance])
    ended = {instance.id: a_status(instance, running=False, exit_code=7)}
    assert failing(world, statuses=ended) == [
        MoveInstance("notes-r2-1", S.FAILED, "it ended with exit code 7", fault=True)
    ]
    assert failing(world, statuses={}, start_errors={instance.id: "no port"}) == [
        MoveInstance("notes-r2-1", S.FAILED, "no port", fault=True)
    ]


def test_one_that_takes_another_instances_place_has_its_time_too() -> None:
    """The clock of a starting release is in `test_ready_deadline.py`."""
    instance = an_instance(OLD, 2, S.STARTING, created_at=T0)

    def end(now_s: float, waited_s: float = 0) -> list[Change]:
        health = {instance.id: InstanceHealth(1, "GET /up: nothing listens", cpu_waited_s=waited_s)}
        return acts(a_world([OLD], [instance], health=health), after(now_s))

    assert end(59.9) == [] and end(90, 40.1) == []
    assert end(60) == [MoveInstance("notes-r1-2", S.FAILED, "not ready within 60 s: GET /up: nothing listens")]
    late = "not ready within 60 s: GET /up: nothing listens; it was given 180 s more, as the CPU was short"
    assert end(239, 239) == [] and end(240, 240) == [MoveInstance("notes-r1-2", S.FAILED, late)]


def test_a_release_with_a_failed_instance_fails_and_the_old_one_stays() -> None:
    faulty = NEW.model_copy(update={"failure": a_failure("notes-r2-1")})
    failed = an_instance(NEW, 1, S.FAILED, ended_at=T0)
    world = a_world([OLD, faulty], [an_instance(OLD, 1), failed], routable=["notes-r1-1"])
    why = "notes-r2-1: it ended with exit code 3"
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.FAILED, why)]
    ended = faulty.model_copy(update={"state": R.FAILED})
    world = replace(world, releases={"notes-r1": OLD, "notes-r2": ended})
    assert plan(world, LIMITS, NOW) == []


def test_instances_of_an_ended_release_leave() -> None:
    ended = a_release(2, R.FAILED, live_at=None)
    instances = [an_instance(ended, 1), an_instance(ended, 2, S.STARTING)]
    reason = "notes-r2 is failed: a reason"
    assert plan(a_world([ended], instances), LIMITS, NOW) == [
        MoveInstance("notes-r2-1", S.DRAINING, reason),
        MoveInstance("notes-r2-2", S.STOPPED, reason),
    ]


def test_a_refused_route_fails_the_release() -> None:
    world = a_world([OLD, NEW], [an_instance(OLD, 1), an_instance(NEW, 1)], routes=None, refused="host taken")
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.FAILED, "host taken")]


@pytest.mark.parametrize(("at_s", "fault"), [(9, True), (10, True), (11, False)])
def test_a_crash_counts_against_a_live_release_only_while_it_is_watched(at_s: float, fault: bool) -> None:
    instance = an_instance(OLD, 1)
    crashed = {instance.id: a_status(instance, running=False, exit_code=3)}
    assert plan(a_world([OLD], [instance], statuses=crashed), LIMITS, after(at_s)) == [
        MoveInstance("notes-r1-1", S.FAILED, "it ended with exit code 3", fault)
    ]


def test_a_faulty_live_release_is_taken_back_once_and_never_one_that_came_by_itself() -> None:
    faulty = a_release(2, failure=a_failure("notes-r2-1"))
    instances = [an_instance(faulty, 1)]

    def asked(release: Release, *others: Release) -> bool:
        return AutoRollback("notes-r2") in list(
            plan_work(a_world([release, *others], instances, routable=["notes-r2-1"]))
        )

    assert asked(faulty)
    assert not asked(faulty.model_copy(update={"automatic_rollback": "notes-r3"}))
    assert not asked(faulty.model_copy(update={"replaces_faulty": "notes-r1"}))
    assert not asked(faulty, a_release(3, R.STARTING))
    assert not asked(faulty.model_copy(update={"failure": None}))


def test_the_faulty_one_is_rolled_back_when_the_other_is_live() -> None:
    faulty = a_release(2, failure=a_failure("notes-r2-1"))
    back = a_release(3, R.STARTING, replaces_faulty="notes-r2", switched_at=T0)
    world = a_world([faulty, back], [an_instance(back, 1)], routable=["notes-r3-1"])
    assert plan(world, LIMITS, NOW)[1] == MoveRelease(
        "notes-r2", R.ROLLED_BACK, "it ended with exit code 3; notes-r3 took its place"
    )


# --- canary -----------------------------------------------------------------------------------------------------------


def test_a_canary_opens_its_rollout_before_the_old_one_leaves() -> None:
    new = canary(2, R.STARTING)
    world = a_world([new], [an_instance(new, 1)], routable=["notes-r2-1"])
    assert acts(world, NOW) == []
    assert list(plan_work(world)) == [OpenRollout("notes-r2")]
    opened = new.model_copy(update={"rollout_opened": True})
    assert plan(replace(world, releases={new.id: opened}), LIMITS, NOW) == [Switch("notes-r2")]


def test_a_faulty_canary_is_rolled_back_and_its_rollout_aborted() -> None:
    faulty = canary(2, R.LIVE, failure=a_failure("notes-r2-1"), rollout_opened=True)
    why = "notes-r2-1: it ended with exit code 3"
    world = a_world([faulty], [an_instance(faulty, 2)], routable=["notes-r2-2"])
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.ROLLED_BACK, why, abort_rollout=True)]
    ended = canary(2, R.ROLLED_BACK, abort_rollout=True)
    assert list(plan_work(a_world([ended], []))) == [AbortRollout("notes-r2")]


# --- staying live -----------------------------------------------------------------------------------------------------


def test_three_misses_make_unhealthy_and_one_answer_makes_ready() -> None:
    instance = an_instance(OLD, 1)
    world = a_world([OLD], [instance], routable=[instance.id], health={instance.id: InstanceHealth(2, "timeout")})
    assert plan(world, LIMITS, NOW) == []
    missed = replace(world, health={instance.id: InstanceHealth(3, "timeout")})
    assert plan(missed, LIMITS, NOW) == [
        MoveInstance("notes-r1-1", S.UNHEALTHY, "3 probes in a row missed: timeout", fault=False)
    ]
    ill = an_instance(OLD, 1, S.UNHEALTHY, changed_at=NOW)
    world = a_world([OLD], [ill], routable=[ill.id], health={ill.id: WELL})
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.READY, "its health is back")]


def test_a_crashed_instance_is_replaced_after_its_delay() -> None:
    failed = an_instance(OLD, 1, S.FAILED, changed_at=NOW, ended_at=NOW)
    world = a_world([OLD], [failed], published=frozenset())
    assert plan(world, LIMITS, NOW) == []
    assert plan(world, LIMITS, after(100.5)) == [AddInstance("notes-r1", replaces="notes-r1-1")]


def test_what_the_platform_stopped_is_started_again_at_once() -> None:
    instance = an_instance(OLD, 1)
    stopped = {instance.id: a_status(instance, running=False, interrupted=True)}
    assert plan(a_world([OLD], [instance], statuses=stopped), LIMITS, NOW) == [
        MoveInstance("notes-r1-1", S.STOPPED, "the platform or the machine was stopped")
    ]
    world = a_world([OLD], [an_instance(OLD, 1, S.STOPPED)])
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]


def test_one_that_is_unhealthy_for_long_is_replaced_start_first() -> None:
    ill = an_instance(OLD, 1, S.UNHEALTHY, changed_at=after(70))
    world = a_world([OLD], [ill], routes=None)
    assert plan(world, LIMITS, after(99)) == []
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]
    world = a_world([OLD], [ill, an_instance(OLD, 2)], routable=["notes-r1-2"])
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "another instance took its place")]


def test_while_other_environments_replace_theirs_one_that_is_unhealthy_stays() -> None:
    ill = an_instance(OLD, 1, S.UNHEALTHY, changed_at=after(70))
    assert plan(a_world([OLD], [ill], routes=None, may_replace=False), LIMITS, NOW) == []
    begun = a_world([OLD], [ill, an_instance(OLD, 2)], routable=["notes-r1-2"], may_replace=False)
    assert plan(begun, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "another instance took its place")]
    starting = a_world([OLD], [ill, an_instance(OLD, 2, S.STARTING)], routes=None, may_replace=False)
    assert plan(starting, LIMITS, NOW) == []  # it is not undone


def test_an_order_of_a_person_waits_for_no_turn() -> None:
    other = Override(configuration="of other values")
    outdated = an_instance(OLD, 1)
    world = a_world([OLD], [outdated], routable=[outdated.id], override=other, may_replace=False)
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]


def test_instances_that_the_platform_replaces_are_replaced_one_after_the_other() -> None:
    """Three with outdated facts of the platform: one is added, gets its visitors, and one of the old ones leaves."""
    live = a_release(1, manifest=a_manifest(replicas=3))
    outdated = [an_instance(live, number, facts_digest="before") for number in (1, 2, 3)]
    ids = [each.id for each in outdated]
    world = a_world([live], outdated, routable=ids, facts_digest="now")
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]
    starting = an_instance(live, 4, S.STARTING, facts_digest="now")
    world = a_world([live], [*outdated, starting], routable=ids, facts_digest="now")
    assert plan(world, LIMITS, NOW) == []
    fresh = an_instance(live, 4, facts_digest="now")
    world = a_world([live], [*outdated, fresh], routable=[*ids, fresh.id], facts_digest="now")
    assert plan(world, LIMITS, NOW) == [MoveInstance(ids[0], S.DRAINING, "another instance took its place")]


def test_a_replacement_that_is_as_unhealthy_takes_the_old_ones_place_before_the_next_is_added() -> None:
    ill = [an_instance(OLD, number, S.UNHEALTHY, changed_at=after(70)) for number in (1, 2)]
    world = a_world([OLD], ill, routable=[each.id for each in ill])
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "another instance took its place")]
    world = a_world([OLD], ill[1:], routable=[ill[1].id])
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]


def test_other_variables_replace_instances_start_first() -> None:
    other = Override(configuration="of other values")
    outdated = an_instance(OLD, 1)
    world = a_world([OLD], [outdated], routable=[outdated.id], override=other)
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]


def test_an_instance_with_outdated_facts_of_the_platform_is_replaced_start_first() -> None:
    outdated, unrecorded = (
        an_instance(OLD, 1, facts_digest="before"),
        an_instance(OLD, 1, facts_digest=""),
    )
    world = a_world([OLD], [outdated], routable=["notes-r1-1"], facts_digest="now")
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]
    assert plan(a_world([OLD], [unrecorded], routable=["notes-r1-1"], facts_digest="now"), LIMITS, NOW) == []


def test_fewer_replicas_drain_the_newest_and_never_more_than_stay_ready() -> None:
    release = a_release(1, manifest=a_manifest(max_replicas=4))
    instances = [an_instance(release, n) for n in (1, 2, 3, 4)]
    world = a_world([release], instances, routable=[i.id for i in instances])
    assert plan(world, LIMITS, NOW) == [
        MoveInstance("notes-r1-4", S.DRAINING, "1 instances are wanted"),
        MoveInstance("notes-r1-3", S.DRAINING, "1 instances are wanted"),
    ]


def test_the_live_release_is_kept_up_while_a_newer_one_waits() -> None:
    stopped = an_instance(OLD, 1, S.STOPPED, ended_at=T0)
    world = a_world([OLD, NEW], [stopped, an_instance(NEW, 1)], routes=None, published=frozenset())
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]


def test_a_quiet_environment_asks_for_nothing() -> None:
    world = a_world([OLD], [an_instance(OLD, 1)], routable=["notes-r1-1"])
    assert plan(world, LIMITS, NOW) == []
    assert list(plan_work(world)) == []


def test_a_failed_instance_is_cleaned_up_at_once() -> None:
    world = a_world([OLD], [an_instance(OLD, 1, S.FAILED, changed_at=NOW)], routes={})
    assert list(plan_work(world)) == [StopInstance("notes-r1-1")]


def test_the_newest_few_ended_instances_are_kept() -> None:
    live = an_instance(OLD, 99)
    ended = [an_instance(OLD, n, S.STOPPED, ended_at=T0) for n in range(1, 8)]
    world = a_world([OLD], [*ended, live], routable=[live.id], published=frozenset({live.id, "notes-r1-1"}))
    assert plan(world, LIMITS, NOW) == [DropInstance("notes-r1-2")]


# --- at rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("releases", "states", "rests"),
    [
        ([OLD], [S.READY], True),
        ([OLD], [S.READY, S.STOPPED], True),
        ([OLD, a_release(2, R.FAILED)], [S.READY], True),
        ([], [], True),
        ([OLD], [], False),
        ([OLD, a_release(2, R.PENDING)], [S.READY], False),
        ([OLD, NEW], [S.READY], False),
        ([OLD], [S.STARTING], False),
        ([OLD], [S.UNHEALTHY], False),
        ([OLD], [S.READY, S.DRAINING], False),
        ([OLD], [S.FAILED], False),
    ],
)
def test_an_environment_rests_when_it_has_what_it_wants(
    releases: list[Release], states: list[InstanceState], rests: bool
) -> None:
    instances = [an_instance(OLD, number, state, ended_at=T0) for number, state in enumerate(states)]
    assert is_at_rest(a_world(releases, instances)) is rests


def test_an_instance_of_which_something_may_still_run_lets_nothing_rest() -> None:
    gone = an_instance(OLD, 2, S.FAILED, replaced=True)
    assert not is_at_rest(a_world([OLD], [an_instance(OLD, 1), gone]))


@pytest.mark.parametrize("outdated", [{"configuration": "older"}, {"facts_digest": "older"}])
def test_an_instance_that_is_to_be_replaced_lets_nothing_rest(outdated: dict[str, Any]) -> None:
    assert not is_at_rest(a_world([OLD], [an_instance(OLD, 1, **outdated)]))


# --- the key of a canary --------------------------------------------------------------------------------------------


def with_key(number: int, state: ReleaseState, **changes: object) -> Release:
    manifest = a_manifest().model_copy(update={"canary": Canary(override="CANARY_KEY")})
    return a_release(number, state, **{"environment": Environment.CANARY, "manifest": manifest, **changes})


def secrets(value: str) -> Override:
    return Override.model_validate({"secrets": {"CANARY_KEY": {"value": value, "set_at": T0}}})


def test_a_canary_whose_key_is_not_set_fails_before_its_first_instance_starts() -> None:
    world = a_world([with_key(1, R.STARTING)], [])
    [change] = plan(world, LIMITS, NOW)
    assert isinstance(change, MoveRelease) and change.state is R.FAILED
    assert change.reason == (
        "canary.override names the secret CANARY_KEY, which is not set; PATCH /apps/notes/environments/canary "
        '{"secrets": {"CANARY_KEY": "…"}} sets it, then release the build again'
    )
    with pytest.raises(KeyError):
        rollout_request(with_key(1, R.STARTING), Override())


@pytest.mark.parametrize(
    "value", ["", "short", "with a space in it", "ünicode-is-no-header", "a\nline" * 10, "x" * 201]
)
def test_a_key_that_no_header_can_carry_fails_the_release(value: str) -> None:
    [change] = plan(a_world([with_key(1, R.STARTING)], [], override=secrets(value)), LIMITS, NOW)
    assert isinstance(change, MoveRelease) and "16 to 200 printable ASCII characters" in change.reason


def test_a_key_that_cannot_be_decrypted_fails_the_release() -> None:
    override = Override(locked={"CANARY_KEY": Locked(sealed="x", set_at=T0)})
    [change] = plan(a_world([with_key(1, R.STARTING)], [], override=override), LIMITS, NOW)
    assert isinstance(change, MoveRelease) and "cannot be decrypted with the platform's key" in change.reason


@pytest.mark.parametrize(
    ("release", "override"),
    [
        (with_key(1, R.STARTING), secrets("k" * 16)),
        (with_key(1, R.STARTING, rollout_opened=True), Override()),
        (with_key(1, R.STARTING, environment=Environment.PRODUCTION), Override()),
        (canary(1, R.STARTING), Override()),
    ],
)
def test_a_release_with_its_key_or_without_need_of_one_starts(release: Release, override: Override) -> None:
    assert plan(a_world([release], [], override=override), LIMITS, NOW) == [AddInstance("notes-r1")]


def test_the_proxy_gets_the_plan_and_the_key() -> None:
    request = rollout_request(with_key(1, R.STARTING), secrets("k" * 16))
    assert (request.release, request.weight, request.override_key) == ("notes-r1", 33, "k" * 16)
    assert request.canary == Canary(override="CANARY_KEY")
    assert rollout_request(canary(1, R.STARTING), Override()).override_key == ""
