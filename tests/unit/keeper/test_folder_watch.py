from pathlib import Path

import pytest

from services.keeper.folder_watch import FolderWatch


def test_it_tells_which_files_were_moved_or_removed_and_not_which_were_written(tmp_path: Path) -> None:
    folders = tmp_path / "eds", tmp_path / "certificates"
    for folder in folders:
        folder.mkdir()
    (folders[1] / "gone.json").write_text("")
    watch = FolderWatch(*folders)
    assert watch.changed() == set()
    (folders[0] / "written.json").write_text("")
    for path in (
        folders[0] / "notes.stable.json",
        folders[1] / "notes.localhost.json",
        folders[0] / "notes.stable.json",
    ):
        (tmp_path / "fresh").write_text("")
        (tmp_path / "fresh").rename(path)
    (folders[1] / "gone.json").unlink()

    names = {"eds/notes.stable.json", "certificates/notes.localhost.json", "certificates/gone.json"}
    assert watch.changed() == {tmp_path / name for name in names}
    assert watch.changed() == set()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/eds'"):
        FolderWatch(tmp_path / "eds")
