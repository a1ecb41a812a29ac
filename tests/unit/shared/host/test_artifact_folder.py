"""An artifact is found in the home wherever the home is, and is checked whole where it may have been moved."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.host.artifact_folder import (
    ArtifactAltered,
    ArtifactBound,
    ArtifactMissing,
    artifact_folder,
    check_artifact,
    is_moved,
)
from shared.host.directory_digest import directory_digest
from shared.models import Artifact

REF = "releases/notes/notes-17"


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        (REF, "/home/releases/notes/notes-17"),
        ("/home/releases/notes/notes-17", "/home/releases/notes/notes-17"),
        ("/former/.slipway/releases/notes/notes-17", "/home/releases/notes/notes-17"),
        ("/elsewhere/notes-17", "/elsewhere/notes-17"),  # no version stored such a path
    ],
)
def test_the_folder_is_below_this_home_wherever_the_home_was(ref: str, found: str) -> None:
    assert artifact_folder(Path("/home"), ref) == Path(found)


def sealed(home: Path, prepare: Callable[[Path], object] = lambda folder: None) -> Artifact:
    """Returns an artifact in the home, after `prepare`."""
    folder = home / REF
    folder.mkdir(parents=True)
    (folder / "app.py").write_text("print(1)\n")
    (folder / "empty").touch()
    prepare(folder)
    return Artifact(kind="directory", ref=REF, digest=directory_digest(folder), built_in=str(folder))


def moved(home: Path) -> Path:
    return home.rename(home.with_name("moved"))


@pytest.mark.parametrize("is_old", [False, True])
def test_an_artifact_runs_after_a_move_of_the_home(tmp_path: Path, is_old: bool) -> None:
    artifact = sealed(tmp_path / "home")
    if is_old:  # as an earlier version stored it
        artifact = Artifact(kind="directory", ref=artifact.built_in, digest=artifact.digest)
    check_artifact(tmp_path / "home", artifact)
    assert not is_moved(tmp_path / "home", artifact)
    home = moved(tmp_path / "home")
    check_artifact(home, artifact)
    assert is_moved(home, artifact)


def test_what_is_missing_or_altered_is_said(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "home")
    home = moved(tmp_path / "home")
    (home / REF / "app.py").unlink()  # a copy that broke off
    with pytest.raises(ArtifactAltered, match=f"and was {artifact.digest}"):
        check_artifact(home, artifact)
    with pytest.raises(ArtifactMissing, match="there is no directory notes-17"):
        check_artifact(tmp_path / "home", artifact)


NAMES_ITS_PATH: dict[str, Callable[[Path], object]] = {
    "file": lambda folder: (folder / "config").write_text(f"root = {folder}/static\n"),
    "binary": lambda folder: (folder / "lib.so").write_bytes(b"\0\xff" + bytes(folder) + b"\0"),
    "link": lambda folder: (folder / "link").symlink_to(folder / "app.py"),
    "link to a folder": lambda folder: (folder / "link").symlink_to(folder),
}


@pytest.mark.parametrize("prepare", NAMES_ITS_PATH.values(), ids=NAMES_ITS_PATH.keys())
def test_an_artifact_that_names_its_path_runs_there_only(tmp_path: Path, prepare: Callable[[Path], object]) -> None:
    artifact = sealed(tmp_path / "home", prepare)
    check_artifact(tmp_path / "home", artifact)
    with pytest.raises(
        ArtifactBound, match=r"the home was moved, and '(config|lib\.so|link)' in notes-17 names the path"
    ):
        check_artifact(moved(tmp_path / "home"), artifact)


def harmless(folder: Path) -> None:
    named = (".venv/bin/activate.fish", ".venv/pyvenv.cfg", "lib/a.dist-info/direct_url.json", "__pycache__/app.pyc")
    for name in named:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(folder))


def test_what_names_the_path_for_others_does_no_harm(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "home", harmless)
    check_artifact(moved(tmp_path / "home"), artifact)


def test_an_artifact_whose_python_is_not_on_this_machine_is_unfit(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "python").symlink_to("/usr/bin/python3.0")

    with pytest.raises(ArtifactBound, match=r"notes-17 runs on /usr/bin/python3\.0, which is not on this machine"):
        check_artifact(tmp_path / "home", sealed(tmp_path / "home", prepare))
