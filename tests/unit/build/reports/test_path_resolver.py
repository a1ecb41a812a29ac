import pytest

from services.build.reports.path_resolver import PathResolver


@pytest.mark.parametrize(
    ("path", "roots", "found"),
    [
        ("/build/notes-3/src/a.py", [], "src/a.py"),
        ("file:///build/notes-3/src/a%20b.py", [], "src/a b.py"),
        ("src/a.py", [], "src/a.py"),
        ("./src/a.py", [], "src/a.py"),
        ("a.py", ["/build/notes-3/src"], "src/a.py"),
        ("a.py", ["/build/notes-3"], "a.py"),
        ("github.com/me/notes/src/a.py", [], "src/a.py"),
        ("other.py", ["/build/notes-3"], None),
        ("", [], None),
    ],
)
def test_a_file_is_found_as_the_commit_names_it(path: str, roots: list[str], found: str | None) -> None:
    assert PathResolver(["a.py", "src/a.py", "src/a b.py"]).find(path, roots) == found
