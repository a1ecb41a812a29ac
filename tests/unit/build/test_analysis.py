"""The platform's own look at the source, by the real tools."""

import os
from pathlib import Path

import pytest

from services.build.analysis import Analysis

pytestmark = pytest.mark.anyio

BRANCHES = "\n".join(f"    if x == {number}: return {number}" for number in range(20))
KEY = "AKIA" + "Q3EGRIVUH7DLTSRN"  # put together here, so that it is none of this file's


async def figures(tmp_path: Path, files: dict[str, str]) -> dict[str, float | None]:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    measures = await Analysis(dict(os.environ)).measure(source)
    return {name: measure.figure for name, measure in measures.items()}


async def test_no_function_and_no_secret_count_as_0(tmp_path: Path) -> None:
    assert await figures(tmp_path, {"README.md": "# Notes\n"}) == {"complexity": 0, "function_length": 0, "secrets": 0}


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": f"def f(x):\n{BRANCHES}\n"},
        {"a.py": f"def f(x):  # lizard forgives\n    # lizard forgives\n    #lizard forgive\n{BRANCHES}\n"},
        {"a.py": f"# GENERATED CODE\ndef f(x):\n{BRANCHES}\n"},
        {"a.py": f"def f(x):\n{BRANCHES}\n", "whitelizer.txt": "f\n", ".gitignore": "*\n"},
    ],
)
async def test_a_complex_function_is_seen_whatever_the_commit_says_of_it(tmp_path: Path, files: dict[str, str]) -> None:
    measured = await figures(tmp_path, files)
    assert measured["complexity"] == 21
    assert measured["function_length"] in range(21, 25)


@pytest.mark.parametrize("comment", ["", "  # pragma: allowlist secret", "  # pragma: whitelist secret"])
async def test_a_secret_is_seen_whatever_the_commit_says_of_it(tmp_path: Path, comment: str) -> None:
    measured = await figures(tmp_path, {"a.py": f'key = "{KEY}"{comment}\n'})
    assert measured["secrets"] == 1


async def test_a_link_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(f'key = "{KEY}"\n')
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.py").symlink_to(outside)
    measures = await Analysis(dict(os.environ)).measure(tmp_path / "source")
    assert measures["secrets"].figure == 0
