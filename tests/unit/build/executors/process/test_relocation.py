"""Programs in a `.venv` find their interpreter, and links the platform's caches, wherever the home is."""

import os
import subprocess
from pathlib import Path

import pytest

from services.build.executors.process.relocation import make_relocatable

BODY = "# -*- coding: utf-8 -*-\nimport sys\nprint('it runs', sys.argv[1:], sys.flags.isolated)\n"
INTERPRETER = '#!/bin/sh\nexec python3 "$@"\n'  # stands for a link to the machine's Python


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    venv = tmp_path / "home" / "releases" / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text(INTERPRETER)
    (venv / "bin" / "python").chmod(0o755)
    return venv


def program(venv: Path, head: str, name: str = "tool") -> Path:
    path = venv / "bin" / name
    path.write_text(head + BODY)
    path.chmod(0o755)
    return path


HEADS = {
    "one line": ("#!{}/python\n", "0"),
    "an option": ("#!{}/python -I\n", "1"),
    "long": ("#!/bin/sh\n'''exec' {}/python \"$0\" \"$@\"\n' '''\n", "0"),
    "blanks": ("#!/bin/sh\n'''exec' \"{}/python\" \"$0\" \"$@\"\n' '''\n", "0"),
    "long, an option": ("#!/bin/sh\n'''exec' {}/python -I \"$0\" \"$@\"\n' '''\n", "1"),
}


@pytest.mark.parametrize(("head", "isolated"), HEADS.values(), ids=HEADS.keys())
def test_a_program_runs_after_a_move_also_through_a_link(tmp_path: Path, venv: Path, head: str, isolated: str) -> None:
    tool = program(venv, head.format(venv / "bin"))
    make_relocatable(venv, tmp_path / "home" / "cache")
    assert str(venv).encode() not in tool.read_bytes()
    moved = (tmp_path / "home").rename(tmp_path / "moved") / "releases" / ".venv" / "bin"
    (tmp_path / "linked").symlink_to(moved)
    for folder in (moved, tmp_path / "linked"):
        said = subprocess.run([folder / "tool", "a b"], capture_output=True, text=True, check=True).stdout
        assert said == f"it runs ['a b'] {isolated}\n"


def test_other_programs_and_the_cache_of_an_installer_stay_as_they_are(tmp_path: Path, venv: Path) -> None:
    other = program(venv, "#!/usr/bin/python3\n", "other")
    cached = program(venv, f"#!{venv}/bin/python\n", "cached")
    os.link(cached, tmp_path / "hard link")
    before = other.read_bytes(), (tmp_path / "hard link").read_bytes()
    make_relocatable(venv, tmp_path / "home" / "cache")
    assert (other.read_bytes(), (tmp_path / "hard link").read_bytes()) == before
    assert cached.read_bytes() != before[1]
    make_relocatable(venv, tmp_path / "home" / "cache")  # again, it changes nothing
    make_relocatable(tmp_path / "none", tmp_path / "home" / "cache")


def test_a_link_to_the_platforms_cache_leads_there_after_a_move(tmp_path: Path, venv: Path) -> None:
    home = tmp_path / "home"
    (home / "cache" / "virtualenv" / "pip").mkdir(parents=True)
    packages = venv / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "pip").symlink_to(home / "cache" / "virtualenv" / "pip")
    (packages / "other").symlink_to("/usr/lib")
    make_relocatable(venv, home / "cache")
    moved = home.rename(tmp_path / "moved")
    found = moved / packages.relative_to(home)
    assert (found / "pip").resolve() == (moved / "cache" / "virtualenv" / "pip").resolve()
    assert (found / "other").readlink() == Path("/usr/lib")
