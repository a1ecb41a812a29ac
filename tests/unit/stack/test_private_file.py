"""A file with a secret is its owner's alone, whatever was there before."""

import stat
from pathlib import Path

from stack.private_file import write_private


def test_a_file_is_replaced_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for stale in (path, tmp_path / ".token.new"):
        stale.write_text("old")
        stale.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
