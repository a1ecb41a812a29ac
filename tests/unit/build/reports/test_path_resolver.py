import pytest

from services.build.reports.path_resolver import PathResolver, go_module, working_folders

TRACKED = ["a.py", "src/a.py", "src/a b.py", "pkg/src/a.py", "pkg/src/b.py", "go/run.go"]


def find(path: str, roots: list[str], report: str = "") -> str | None:
    resolver = PathResolver(TRACKED, ["/build/notes-3", "/workspace"], {"github.com/me/notes": "go", "me": "."})
    return resolver.find_all([path], roots, report).get(path)


@pytest.mark.parametrize(
    ("path", "roots", "found"),
    [
        ("/build/notes-3/src/a.py", [], "src/a.py"),
        ("/workspace/src/a.py", [], "src/a.py"),
        ("file:///build/notes-3/src/a%20b.py", [], "src/a b.py"),
        ("src\\a.py", [], "src/a.py"),
        ("./src/a.py", [], "src/a.py"),
        ("a.py", ["/build/notes-3/src"], "src/a.py"),
        ("a.py", ["src"], "src/a.py"),
        ("a.py", ["/build/notes-3"], "a.py"),
        ("/elsewhere/src/a.py", ["/elsewhere"], "src/a.py"),
        ("/elsewhere/src/a.py", ["/elsewhere/"], "src/a.py"),
        ("a.py", ["/elsewhere"], "a.py"),
        ("github.com/me/notes/run.go", [], "go/run.go"),
        ("me/a.py", [], "a.py"),
        ("other.py", ["/build/notes-3"], None),
        ("", [], None),
    ],
)
def test_a_file_is_found_as_the_commit_names_it(path: str, roots: list[str], found: str | None) -> None:
    assert find(path, roots) == found


@pytest.mark.parametrize(
    "path",
    ["build/gen/a.py", "/usr/include/a.py", "node_modules/x/src/a.py", "/build/notes-3/dist/src/a.py", "../a.py"],
)
def test_a_file_that_only_ends_like_one_of_the_commit_is_none_of_it(path: str) -> None:
    assert find(path, []) is None


def test_the_files_of_a_report_in_a_subfolder_have_one_base_which_the_most_of_them_tell() -> None:
    names = ["src/a.py", "src/b.py"]
    resolver = PathResolver(TRACKED)
    assert resolver.find_all(names, report="pkg/coverage/lcov.info") == {
        "src/a.py": "pkg/src/a.py",
        "src/b.py": "pkg/src/b.py",
    }
    assert resolver.find_all(names[:1], report="pkg/coverage/lcov.info") == {"src/a.py": "src/a.py"}
    assert resolver.find_all(names, report="coverage/lcov.info") == {"src/a.py": "src/a.py"}


@pytest.mark.parametrize(
    ("command", "folders"),
    [
        ("cd pkg && npx vitest --coverage.reportsDirectory=../reports", ["pkg"]),
        ("set -x; cd 'pkg/src'; (cd ../go && go test)", ["pkg/src"]),
        ("npm --prefix web test && yarn --cwd=api test && make -C ./lib test", ["web", "api", "lib"]),
        ("cd /usr; cd ..; echo abcd x; cd -; pytest --color x", []),
    ],
)
def test_a_command_says_in_which_folder_it_works(command: str, folders: list[str]) -> None:
    assert working_folders([command]) == folders


def test_a_report_that_is_elsewhere_names_files_from_the_steps_working_folder() -> None:
    names = ["src/a.py", "src/b.py"]
    found = PathResolver(TRACKED).find_all(names, report="reports/lcov.info", working=["go", "pkg"])
    assert found == {"src/a.py": "pkg/src/a.py", "src/b.py": "pkg/src/b.py"}


def test_a_module_is_named_by_its_go_mod() -> None:
    assert go_module(b"// a comment\nmodule github.com/me/notes\n\ngo 1.21\n") == "github.com/me/notes"
    assert go_module(b"go 1.21\n") == ""
