"""Control groups where this machine has none: which hierarchies are found, and version 2's files, in a made tree.

What the kernel makes of what is written there is not tested here.
"""

from pathlib import Path

import pytest

from services.deployer.drivers.cgroup_files import VersionOneFiles, VersionTwoFiles, enable_memory, group_files
from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.memory_cgroup import CgroupLimits, parent_for, parents_of
from shared.manifest import MIB

HOME = Path("/srv/slipway")
STAT = "anon 1000\nfile 5000\ninactive_file {}\nactive_file 100\n"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Makes the files of a control group of version 2: 20 MiB in use, 4 of them droppable cache; three processes were
    killed.
    """
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "memory.swap.max").write_text("max")
    (tmp_path / "memory.current").write_text(f"{20 * MIB}\n")
    (tmp_path / "memory.stat").write_text(STAT.format(4 * MIB))
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n")
    pressure = "some avg10=12.50 avg60=3.00 avg300=0.50 total=99\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=9\n"
    (tmp_path / "memory.pressure").write_text(pressure)
    return tmp_path


def mounts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def a_tree(root: Path, controllers: str) -> Path:
    root.mkdir()
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.subtree_control").write_text("cpu")
    return root


def test_version_2_is_limited_without_swap(group: Path) -> None:
    files = group_files(group)
    assert isinstance(files, VersionTwoFiles)
    files.set_limit(64 * MIB)
    assert (group / "memory.max").read_text() == str(64 * MIB)
    assert (group / "memory.swap.max").read_text() == "0"
    (group / "memory.swap.max").unlink()  # a kernel without swap
    files.set_limit(128 * MIB)
    assert (group / "memory.max").read_text() == str(128 * MIB)


def test_version_2_tells_use_kills_and_pressure(group: Path) -> None:
    assert group_files(group).use() == MemoryUse(16 * MIB, 3, 12.5)


def test_the_page_cache_is_summed_up_again_only_when_the_usage_has_changed(group: Path) -> None:
    files = group_files(group)
    assert files.use().working_set == 16 * MIB
    (group / "memory.stat").write_text(STAT.format(1 * MIB))
    assert files.use().working_set == 16 * MIB
    (group / "memory.current").write_text(f"{21 * MIB}\n")
    assert files.use().working_set == 20 * MIB


def test_cache_is_not_subtracted_where_it_is_not_less_than_the_use(group: Path) -> None:
    (group / "memory.stat").write_text(STAT.format(20 * MIB))
    assert group_files(group).use().working_set == 20 * MIB


def test_without_pressure_files_nothing_is_made_up(group: Path) -> None:
    (group / "memory.pressure").unlink()
    assert group_files(group).use().pressure is None


def test_of_a_group_that_is_gone_no_use_is_made_up(tmp_path: Path) -> None:
    files = group_files(tmp_path / "gone")
    assert files.oom_kills() == 0
    with pytest.raises(OSError):
        files.use()


def test_in_version_1_the_limit_with_swap_is_raised_first_and_lowered_last(tmp_path: Path) -> None:
    """If the second write fails, the first limit is set back, so that nothing has changed."""
    limit, with_swap = tmp_path / VersionOneFiles.LIMIT, tmp_path / VersionOneFiles.LIMIT_WITH_SWAP
    limit.write_text(str(64 * MIB))
    with_swap.mkdir()  # a folder, which nobody can write a number to
    for memory in (128 * MIB, 32 * MIB):
        with pytest.raises(IsADirectoryError):
            group_files(tmp_path).set_limit(memory)
        assert limit.read_text() == str(64 * MIB)
    with_swap.rmdir()  # a kernel that does not account for swap
    group_files(tmp_path).set_limit(32 * MIB)
    assert limit.read_text() == str(32 * MIB)


def test_the_memory_controller_is_handed_down_once(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "root", "cpu memory")
    enable_memory(root)
    assert (root / "cgroup.subtree_control").read_text() == "+memory"
    (root / "cgroup.subtree_control").write_text("cpu memory")
    enable_memory(root)
    assert (root / "cgroup.subtree_control").read_text() == "cpu memory"


def test_a_group_of_version_2_is_made_with_its_limit(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "root", "memory")
    parent = a_tree(root / "slipway-0", "memory")
    (parent / "notes-r1-1").mkdir()
    (parent / "notes-r1-1" / "memory.max").write_text("max")
    entrance = CgroupLimits(parent).make("notes-r1-1", 64 * MIB)
    assert entrance == parent / "notes-r1-1" / "cgroup.procs"
    assert (parent / "notes-r1-1" / "memory.max").read_text() == str(64 * MIB)
    assert [(each / "cgroup.subtree_control").read_text() for each in (root, parent)] == ["+memory"] * 2


def test_hierarchies_are_found_by_what_is_mounted(tmp_path: Path) -> None:
    one = "36 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory"
    cpu = "33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct"
    two = f"30 23 0:26 / {a_tree(tmp_path / 'two', 'cpu memory')} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
    without = f"41 31 0:41 / {a_tree(tmp_path / 'without', 'hugetlb')} rw - cgroup2 cgroup2 rw"
    found = parents_of(HOME, mounts(tmp_path, cpu, one, two, without))
    assert [path.parent for path in found] == [Path("/sys/fs/cgroup/memory"), tmp_path / "two"]
    assert {path.name for path in found} == {found[0].name} and found[0].name.startswith("slipway-")
    assert parents_of(HOME, mounts(tmp_path, cpu, without)) == []
    assert parents_of(HOME, tmp_path / "no such file") == []


def test_what_cannot_be_had_is_said_if_it_was_asked_for_and_else_a_guard_does_it(tmp_path: Path) -> None:
    none = mounts(tmp_path, "23 1 0:1 / / rw - ext4 /dev/vda rw")
    with pytest.raises(
        ValueError, match=r"SLIPWAY_MEMORY_LIMITS=cgroup: .*no memory controller is mounted.*choose guard"
    ):
        parent_for("cgroup", HOME, none)
    assert parent_for("auto", HOME, none) is None

    # Folders may be made here, but no kernel makes files in them.
    pretended = mounts(tmp_path, f"30 23 0:26 / {a_tree(tmp_path / 'two', 'memory')} rw - cgroup2 cgroup2 rw")
    with pytest.raises(ValueError, match=r"slipway-[0-9a-f]+: No such file or directory"):
        parent_for("cgroup", HOME, pretended)
    assert parent_for("auto", HOME, pretended) is None
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "cgroup.controllers",
        "cgroup.subtree_control",
    ]
