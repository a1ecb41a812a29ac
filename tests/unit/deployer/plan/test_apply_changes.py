"""Changes of a plan result in stored records, events and entries of the registry."""

import pytest

from services.deployer.plan.action import (
    AddInstance,
    Change,
    DropInstance,
    MoveInstance,
    MoveRelease,
    RecordEnd,
    Switch,
)
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.registry_diff import to_delete, to_put
from services.deployer.releases.environment import Override
from services.deployer.releases.instance import registry_record
from shared.manifest import MIB
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import T0, a_failure, a_release, a_world, after, an_instance

R, S = ReleaseState, InstanceState


def test_added_instances_are_numbered_and_get_what_is_wanted() -> None:
    release = a_release(9, R.STARTING, instances_made=1)
    override = Override(memory=128 * MIB, variables={"A": "b"}, configuration="of A")
    world = a_world([release], [], override=override, facts_digest="of now")
    commit = apply([AddInstance("notes-r9"), AddInstance("notes-r9")], world, {}, after(1))
    assert list(commit.instances) == ["notes-r9-2", "notes-r9-3"]
    assert commit.releases["notes-r9"].instances_made == 3
    added = commit.instances["notes-r9-2"]
    assert (added.state, added.memory, added.commit) == (S.STARTING, 128 * MIB, release.commit)
    assert (added.configuration, added.facts_digest) == ("of A", "of now")
    assert [event.type for event in commit.events] == ["instance.starting"] * 2


def test_a_replacement_counts_on() -> None:
    release = a_release(1, instances_made=1)
    failed = an_instance(release, 1, S.FAILED, restarts=4, crashes=1)
    commit = apply([AddInstance("notes-r1", failed.id)], a_world([release], [failed]), {}, after(1))
    assert commit.instances[failed.id].replaced
    replacement = commit.instances["notes-r1-2"]
    assert (replacement.restarts, replacement.crashes) == (5, 2)


def test_a_fault_is_kept_on_the_release_with_its_evidence_and_the_first_one_stays() -> None:
    release = a_release(1, R.STARTING)
    instances = [an_instance(release, n) for n in (1, 2)]
    evidence = {each.id: a_failure(each.id) for each in instances}
    changes = [MoveInstance(each.id, S.FAILED, "it ended", fault=True) for each in instances]
    commit = apply(changes, a_world([release], instances), evidence, after(1))
    assert commit.releases["notes-r1"].failure == evidence["notes-r1-1"]
    event = commit.events[0].model_dump()
    assert (event["type"], event["id"], event["reason"]) == ("instance.failed", "notes-r1-1", "it ended")
    assert (event["release"], event["environment"], event["build"]) == ("notes-r1", "production", "notes-1")


def test_a_starting_release_remembers_what_was_live() -> None:
    world = a_world([a_release(1), a_release(2, R.PENDING)], [])
    changes: list[Change] = [MoveRelease("notes-r2", R.STARTING, "starts"), Switch("notes-r2")]
    started = apply(changes, world, {}, after(1)).releases["notes-r2"]
    assert (started.previous, started.switched_at) == ("notes-r1", after(1))


def test_ends_and_drops() -> None:
    release = a_release(1)
    ended, old = an_instance(release, 1, S.FAILED), an_instance(release, 2, S.STOPPED)
    commit = apply([RecordEnd(ended.id), DropInstance(old.id)], a_world([release], [ended, old]), {}, after(1))
    assert commit.instances[ended.id].ended_at == after(1) and commit.dropped == [old]


def test_the_registry_says_what_is_stored_and_nothing_of_starting_or_long_ended_ones() -> None:
    release = a_release(1)
    ready, starting = an_instance(release, 1), an_instance(release, 2, S.STARTING)
    failed, forgotten = an_instance(release, 3, S.FAILED), an_instance(release, 4, S.STOPPED)
    world = a_world([release], [ready, starting, failed, forgotten])
    entries = [registry_record(failed.model_copy(update={"state": S.READY}))]
    assert to_put(world, entries) == [registry_record(ready), registry_record(failed)]
    assert to_put(world, [registry_record(ready), registry_record(failed)]) == []


def test_an_entry_goes_only_when_the_proxy_has_let_the_instance_go() -> None:
    release = a_release(1)
    gone = an_instance(release, 1, S.STOPPED, ended_at=T0)
    dying = an_instance(release, 2, S.FAILED)
    entries = [registry_record(gone), registry_record(dying)]
    world = a_world([release], [gone, dying], routes=None)
    assert to_delete(world, entries) == []
    world = a_world([release], [gone, dying], routes={gone.id: RouteState.DRAINING})
    assert to_delete(world, entries) == []
    world = a_world([release], [gone, dying], routes={gone.id: RouteState.ABSENT})
    assert to_delete(world, entries) == [gone.id]


@pytest.mark.parametrize("state", [R.FAILED, R.ROLLED_BACK])
def test_a_release_that_ends_by_a_failure_tells_the_evidence(state: ReleaseState) -> None:
    failure = a_failure().model_copy(update={"probe": "GET /up answered 500", "log": ["first", "x" * 5000, "last"]})
    release = a_release(1, R.STARTING, failure=failure)
    [event] = apply([MoveRelease(release.id, state, "why")], a_world([release], []), {}, after(1)).events
    fields = event.model_dump()
    assert (fields["exit_code"], fields["probe"]) == (3, "GET /up answered 500")
    assert len(fields["excerpt"]) == 4096 and fields["excerpt"].endswith("x\nlast")
    assert (fields["release"], fields["build"], fields["notify"]) == ("notes-r1", "notes-1", [])


def test_an_excerpt_is_cut_between_letters() -> None:
    release = a_release(1, R.STARTING, failure=a_failure().model_copy(update={"log": ["é" * 4096 + "!"]}))
    [event] = apply([MoveRelease(release.id, R.FAILED, "why")], a_world([release], []), {}, after(1)).events
    assert event.model_dump()["excerpt"] == "é" * 2047 + "!"


def test_without_a_failure_or_while_it_lives_there_is_no_evidence() -> None:
    well, faulty = a_release(1), a_release(2, R.STARTING, failure=a_failure())
    changes = [MoveRelease(well.id, R.ROLLED_BACK, "error rate 12 %"), MoveRelease(faulty.id, R.LIVE, "it is routable")]
    for event in apply(changes, a_world([well, faulty], []), {}, after(1)).events:
        assert not {"exit_code", "probe", "excerpt"} & event.model_dump().keys()
