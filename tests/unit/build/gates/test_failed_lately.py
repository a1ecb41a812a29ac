"""The conftest.py for pytest in the guide to gates, as it stands there."""

import os
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "gates.md"
TESTS = """
import pytest
class TestIt:
    def test_one(self): pass
    @pytest.mark.parametrize("x", ["a::b/c", "d"])
    def test_two(self, x): pass
def test_three(): pass
"""


def test_tests_that_failed_lately_are_run_first(tmp_path: Path) -> None:
    snippet = GUIDE.read_text().split("in `conftest.py`:\n\n```python\n")[1].partition("```")[0]
    (tmp_path / "conftest.py").write_text(snippet)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    lately = ["gone::test", "tests.test_it::test_three", "tests.test_it.TestIt::test_two[d]"]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no"]
    environment = {**os.environ, "SLIPWAY_FAILED_LATELY": "\n".join(lately)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    ran = [line.split("::", 1)[1].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("tests/")]
    assert ran == ["test_three", "TestIt::test_two[d]", "TestIt::test_one", "TestIt::test_two[a::b/c]"], done.stdout
