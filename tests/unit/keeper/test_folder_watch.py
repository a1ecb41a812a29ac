from pathlib import Path

import pytest

from services.keeper.folder_watch import FolderWatch


def test_it_tells_which_files_were_moved_and_not_which_were_written(tmp_path: Path) -> None:
    (tmp_path / "eds").mkdir()
    watch = FolderWatch(tmp_path / "eds")
    assert watch.moved() == set()
    (tmp_path / "eds" / "written.json").write_text("")
    for name in ("notes.stable.json", "shop.stable.json", "notes.stable.json"):
        (tmp_path / "fresh").write_text("")
        (tmp_path / "fresh").rename(tmp_path / "eds" / name)

    assert watch.moved() == {"notes.stable.json", "shop.stable.json"}
    assert watch.moved() == set()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/eds'"):
        FolderWatch(tmp_path / "eds")
