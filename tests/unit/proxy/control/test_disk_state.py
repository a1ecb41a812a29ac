import json
from pathlib import Path

import pytest

from services.proxy.control.disk_state import AbortedReleases, Snapshot
from tests.support.proxy.routes import endpoint, route


def test_routes_come_back_as_they_were(tmp_path: Path) -> None:
    notes, shop = route(endpoint("notes-r1-1"), rollout="notes-r2"), route(app="shop")
    snapshot = Snapshot(tmp_path)
    snapshot.write([notes, shop])
    changed = shop.model_copy(update={"weight": 5})
    snapshot.write([changed])
    assert Snapshot(tmp_path).read() == {"notes": notes, "shop": changed}


@pytest.mark.parametrize("content", [None, "", '{"notes": {"app":'])
def test_no_readable_snapshot_is_not_an_empty_one(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "state.json").write_text(content)
    assert Snapshot(tmp_path).read() is None


def test_the_one_file_of_an_earlier_version_is_read_until_each_route_has_its_own(tmp_path: Path) -> None:
    notes, shop = route(endpoint("notes-r1-1")), route(app="shop")
    texts = {each.app: each.model_dump(mode="json") for each in (notes, shop)}
    (tmp_path / "state.json").write_text(json.dumps(texts))
    (tmp_path / ".routes").mkdir()  # a start that was cut off
    (tmp_path / ".routes" / "notes.json").write_text("{")

    snapshot = Snapshot(tmp_path)
    assert snapshot.read() == {"notes": notes, "shop": shop}
    snapshot.write([notes, shop])

    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["notes.json", "shop.json"]
    assert Snapshot(tmp_path).read() == {"notes": notes, "shop": shop}


def test_a_platform_without_apps_is_known_to_have_none(tmp_path: Path) -> None:
    Snapshot(tmp_path).write([])
    assert Snapshot(tmp_path).read() == {}


def test_a_route_that_cannot_be_read_is_replaced_with_all_others_by_what_redis_has(tmp_path: Path) -> None:
    notes, shop = route(endpoint("notes-r1-1")), route(app="shop")
    Snapshot(tmp_path).write([notes, shop])
    (tmp_path / "routes" / "notes.json").write_text('{"app": "no')

    snapshot = Snapshot(tmp_path)
    assert snapshot.read() is None
    snapshot.write([shop])

    assert Snapshot(tmp_path).read() == {"shop": shop}


def test_aborted_releases_add_up(tmp_path: Path) -> None:
    aborted = AbortedReleases(tmp_path)
    assert aborted.read() == {}
    aborted.append("notes-r2", "errors\nabove  1 %")
    aborted.append("notes-r3", "")
    assert AbortedReleases(tmp_path).read() == {"notes-r2": "errors above 1 %", "notes-r3": ""}


def test_a_torn_line_is_not_a_release_and_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "aborted").write_text("notes-r2 errors\nnotes-r1")
    aborted = AbortedReleases(tmp_path)
    assert aborted.read() == {"notes-r2": "errors"}
    aborted.append("notes-r12", "errors")
    assert aborted.read() == {"notes-r2": "errors", "notes-r12": "errors"}


def test_the_newest_twenty_aborted_releases_of_an_app_are_kept(tmp_path: Path) -> None:
    aborted = AbortedReleases(tmp_path)
    aborted.append("rare-r1", "errors")
    for number in range(1, 31):
        aborted.append(f"notes-r{number}", "superseded")
    (tmp_path / "aborted").write_text((tmp_path / "aborted").read_text() + "notes-r3")
    kept = {"rare-r1": "errors"} | {f"notes-r{number}": "superseded" for number in range(11, 31)}
    assert AbortedReleases(tmp_path).read() == kept
    assert len((tmp_path / "aborted").read_text().splitlines()) == 21
    aborted.append("notes-r31", "errors")
    assert list(AbortedReleases(tmp_path).read())[-1] == "notes-r31"
