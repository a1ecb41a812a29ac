"""A home inside another project: that project's configuration and ignore files do not reach the app."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.build.git.config_isolation import isolate


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Returns the checkout of an app without tool configuration, in a home that the project around it ignores."""
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / ".gitignore").write_text("/home/\n")
    (project / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--no-such-option"\n[tool.ruff.lint]\nselect = ["T20"]\n'
    )
    folder = project / "home" / "releases" / "notes" / "notes-1"
    folder.mkdir(parents=True)
    (folder / "test_app.py").write_text("import os\n\n\ndef test_it():\n    print('fine')\n")
    isolate(project / "home" / "releases")
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(folder.parent.parent)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_linter_sees_the_files_and_judges_by_its_own_rules(checkout: Path) -> None:
    ran = run(checkout, sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert ran.returncode == 1
    assert "F401" in ran.stdout
    assert "T201" not in ran.stdout


def test_pytest_runs_without_the_other_projects_options(checkout: Path) -> None:
    ran = run(checkout, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_git_does_not_take_the_app_for_a_part_of_the_other_project(checkout: Path) -> None:
    ran = run(checkout, "git", "rev-parse", "--show-toplevel")
    assert ran.returncode == 128
