"""Releases can be gone back to, need artifacts, and are shown to clients."""

from services.deployer.releases.release import expired, kept, needed_artifacts, rollback_target, unneeded_folders, view
from shared.models import Environment, ReleaseState
from tests.support.deployer.fakes import T0, a_release

R = ReleaseState


def test_the_way_back_leads_to_the_newest_that_was_live_and_well() -> None:
    live = a_release(5)
    past = [live, a_release(4, R.FAILED, live_at=None), a_release(3, R.ROLLED_BACK), a_release(2, R.RETIRED)]
    target = rollback_target([*past, a_release(1, R.RETIRED)], live)
    assert target is not None and target.id == "notes-r2"


def test_there_is_no_way_back_to_what_runs_already() -> None:
    live = a_release(3)
    same = a_release(2, R.RETIRED, commit=live.commit, artifact=live.artifact)
    never_live = a_release(1, R.RETIRED, live_at=None)
    assert rollback_target([live, same, never_live], live) is None


def test_failed_releases_do_not_push_out_what_was_live() -> None:
    failed = [a_release(number, R.FAILED, live_at=None) for number in range(20, 10, -1)]
    releases = [*failed, a_release(10), *(a_release(number, R.RETIRED) for number in range(9, 0, -1))]
    assert [r.number for r in kept(releases, 3)] == [20, 19, 18, 10, 9, 8]


def test_records_of_old_releases_expire_but_not_of_those_that_anything_refers_to() -> None:
    live = a_release(20)
    same = {"commit": live.commit, "artifact": live.artifact}
    newest = [a_release(22, R.PENDING, live_at=None), a_release(21, R.FAILED, live_at=None), live]
    failed = [a_release(number, R.FAILED, live_at=None) for number in range(19, 13, -1)]
    old = [
        a_release(13, R.RETIRED, **same),
        a_release(12, R.RETIRED, **same),  # of the newest two that were live, this is none
        a_release(11, R.RETIRED, live_at=None),
        a_release(10, R.RETIRED),  # the rollback leads here: the later ones ran what runs now
        a_release(9, R.RETIRED),
        a_release(8, R.ROLLED_BACK, rollout_opened=True),
        a_release(7, R.ROLLED_BACK, rollout_opened=True),
        a_release(6, R.RETIRED),
        a_release(5, R.STARTING, live_at=None),
    ]
    gone = expired([*newest, *failed, *old], 5, 2, in_use={"notes-r6"})
    assert [release.number for release in gone] == [17, 16, 15, 14, 12, 11, 9, 7]
    assert rollback_target([*newest, *failed, *old], live) == old[3]
    assert expired([*newest, *failed], 9, 1, in_use=set()) == []


def test_an_artifact_goes_when_no_environment_needs_it() -> None:
    production = [a_release(9), a_release(8, R.RETIRED), a_release(4, R.RETIRED)]
    canary = [
        a_release(7, environment=Environment.CANARY),
        # The same build was promoted as notes-r9.
        a_release(6, R.RETIRED, environment=Environment.CANARY, artifact=production[0].artifact),
        a_release(5, R.RETIRED, environment=Environment.CANARY),
        a_release(3, R.RETIRED, environment=Environment.CANARY),
    ]
    needed = [a for releases in (production, canary) for a in needed_artifacts(releases, 1, in_use={"notes-r3"})]
    assert {artifact.ref for artifact in needed} == {f"/releases/notes-{number}" for number in (9, 7, 3)}
    assert unneeded_folders([production, canary], needed) == {
        "/releases/notes-8",
        "/releases/notes-4",
        "/releases/notes-5",
    }


def test_what_a_client_sees_is_a_release_view() -> None:
    seen = view(a_release(3), T0, unchanged=True).model_dump()
    assert (seen["id"], seen["state"], seen["unchanged"], seen["failure"]) == ("notes-r3", "live", True, None)
