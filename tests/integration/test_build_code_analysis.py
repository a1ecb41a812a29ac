"""The platform's own look at the source, by the real tools."""

import json
import os
from pathlib import Path

import pytest

from services.build.analysis.code_analysis import Analysis
from services.build.analysis.exclusions import Exclusions
from shared.manifest import Gates

pytestmark = pytest.mark.anyio

BRANCHES = "\n".join(f"    if x == {number}: return {number}" for number in range(20))
KEY = "AKIA" + "Q3EGRIVUH7DLTSRN"  # put together here, so that it is none of this file's


async def figures(tmp_path: Path, files: dict[str, str]) -> dict[str, float | None]:
    source = tmp_path / "source"
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    measures = await Analysis(dict(os.environ)).measure(source, Exclusions())
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
    measures = await Analysis(dict(os.environ)).measure(tmp_path / "source", Exclusions())
    assert measures["secrets"].figure == 0


async def test_bytes_that_are_not_utf_8_excuse_no_secret(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_bytes(f'# caf\xe9\nkey = "{KEY}"\n'.encode("latin-1"))
    measures = await Analysis(dict(os.environ)).measure(source, Exclusions())
    assert measures["secrets"].figure == 1


@pytest.mark.parametrize(("start", "reason"), [(b"\0", None), (b"x", "'big' is a text of more than 10 MB")])
async def test_a_large_file_is_not_read_and_no_good_news_if_it_is_a_text(
    tmp_path: Path, start: bytes, reason: str | None
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "big").open("wb") as file:
        file.write(start * 8000)
        file.truncate(10 * 2**20 + 1)
    for measure in (await Analysis(dict(os.environ)).measure(source, Exclusions())).values():
        if reason is None:
            assert measure.figure == 0
        else:
            assert measure.figure is None
            assert reason in measure.reason


async def test_a_commit_brings_no_tool_and_no_settings_of_one(tmp_path: Path) -> None:
    """Each of these would be found by the tools, if they ran as anybody would start them in a checkout."""
    mark = tmp_path / "executed"
    code = f"open({str(mark)!r}, 'w')\n"
    modules = ("sitecustomize", "usercustomize", "conftest", "setup", "lizard", "detect_secrets", "csv", "json", "re")
    baseline = {"version": "1.5.0", "plugins_used": [], "filters_used": [], "results": {}}
    settings = {
        ".secrets.baseline": json.dumps(baseline),
        "pyproject.toml": "[tool.detect-secrets]\nexclude_files = '.*'\n",
        "setup.cfg": "[tool:lizard]\nexclude=*\n[detect-secrets]\nexclude-files=.*\n",
        "pip.conf": "[global]\nindex-url = http://127.0.0.1:9/\n",
        ".npmrc": "registry=http://127.0.0.1:9/\n",
        "x.pth": f"import os; {code}",
        "whitelizer.txt": "f\n",
        ".gitignore": "*\n",
        ".gitattributes": "* linguist-generated binary filter=x\n",
    }
    measured = await figures(
        tmp_path,
        {f"{name}.py": code for name in modules} | settings | {"a.py": f'key = "{KEY}"\ndef f(x):\n{BRANCHES}\n'},
    )
    assert (measured["complexity"], measured["secrets"]) == (21, 1)
    assert not mark.exists()


async def test_vendored_and_generated_files_are_left_out_of_functions_and_not_of_secrets(tmp_path: Path) -> None:
    complex_one = f"def f(x):\n{BRANCHES}\n"
    files = {
        "vendor/a.py": f'key = "{KEY}"\n{complex_one}',
        "notes_pb2.py": complex_one + "# 2\n",
        "vendor/README": "x",
    }
    measured = await figures(tmp_path, files | {"app.py": "def g():\n    pass\n"})
    assert (measured["complexity"], measured["secrets"]) == (1, 1)


async def test_a_copy_of_what_is_left_out_counts(tmp_path: Path) -> None:
    function = f"def f(x):\n{BRANCHES}\n"
    assert (await figures(tmp_path, {"app.py": function, "vendor/a.py": function, "web.py": function}))[
        "complexity"
    ] == 21


async def test_what_is_left_out_stands_in_the_measure(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("vendor/a.py", "vendor/b/c.py", "lib/a.js", "lib/b.js", "lib/c.js", "src/own.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("\n")
    measures = await Analysis(dict(os.environ)).measure(source, Exclusions(["lib/"]))
    for gate in ("complexity", "function_length"):
        assert measures[gate].reason == "left out: 5 files, lib/, …"
        assert measures[gate].left_out == ("lib/: 3 files, set on the app", "vendor/: 2 files, by convention")


async def test_comments_are_counted_if_a_gate_asks_for_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "vendor").mkdir(parents=True)
    (source / "a.py").write_text("# why\nx = 1\ny = 2\n")
    (source / "b.js").write_text("let a\nlet b\n")
    (source / "vendor" / "c.py").write_text("x = 1\n" * 100)
    measure = (await Analysis(dict(os.environ)).measure(source, Exclusions(), Gates(comment_ratio=20)))["comment_ratio"]
    assert (measure.figure, measure.reason) == (25, "left out: 1 file, vendor/")
    assert str(measure.offenders[0]) == "b.js 0 lines of comments, 2 of code"
    (tmp_path / "empty").mkdir()
    none = await Analysis(dict(os.environ)).measure(tmp_path / "empty", Exclusions(), Gates(comment_ratio=20))
    assert none["comment_ratio"].figure == 100
