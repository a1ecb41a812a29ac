"""The digest of a directory: everything that makes a difference to a run changes it, nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.host.directory_digest import directory_digest


def a_tree(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "run").write_text("#!/bin/sh\n")
    (root / "bin" / "run").chmod(0o755)
    (root / "app.py").write_text("print(1)\n")
    (root / "link").symlink_to("app.py")
    (root / "empty").mkdir()
    return root


def replace_link(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("bin/run")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "app.py").write_text("print(2)\n"),
    "name": lambda root: (root / "app.py").rename(root / "app2.py"),
    "executable": lambda root: (root / "bin" / "run").chmod(0o644),
    "new file": lambda root: (root / "empty" / "new").touch(),
    "new folder": lambda root: (root / "another").mkdir(),
    "file gone": lambda root: (root / "bin" / "run").unlink(),
    "link target": replace_link,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = a_tree(tmp_path / "tree")
    before = directory_digest(root)
    change(root)
    assert directory_digest(root) != before


def test_equal_trees_have_equal_digests_wherever_they_are(tmp_path: Path) -> None:
    one, other = a_tree(tmp_path / "one"), a_tree(tmp_path / "other")
    assert directory_digest(one) == directory_digest(other)
    assert directory_digest(one).startswith("sha256:")


def test_caches_of_python_do_not_count(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    before = directory_digest(root)
    (root / "bin" / "__pycache__").mkdir()
    (root / "bin" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert directory_digest(root) == before


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        directory_digest(tmp_path / "none")
