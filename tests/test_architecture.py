"""The layout's rules (docs/architecture.md), read from the code's own imports."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("services/**/*.py"), *ROOT.glob("shared/**/*.py"), *ROOT.glob("stack/**/*.py")])
SERVICES = ("build", "deployer", "monitor", "flags", "proxy")


def is_driver(path: Path) -> bool:
    return path.stem.endswith(("_driver", "_executor")) or path.stem.startswith("docker_")


def is_store(path: Path) -> bool:
    at_the_registry = path.parts[0] == "shared" and path.stem in ("registry", "events", "http", "app")
    return path.stem.endswith("store") or path.stem == "main" or at_the_registry


def is_border(path: Path) -> bool:
    return path.stem.endswith("api") or path.stem == "main" or path == Path("shared/app.py")


def is_vault(path: Path) -> bool:
    return path.stem == "vault"


ALLOWED_IMPORTERS: dict[str, Callable[[Path], bool]] = {
    "docker": is_driver,
    "redis": is_store,
    "fastapi": is_border,
    "cryptography": is_vault,
}


def imports(path: Path) -> set[str]:
    """Full dotted names that the file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def relative(path: Path) -> Path:
    return path.relative_to(ROOT)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_a_file_imports_only_what_its_place_allows(path: Path) -> None:
    here = relative(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "services":
            own = here.parts[0] == "services" and rest[:1] == [here.parts[1]]
            assert own or here.parts[0] == "stack", f"{here} imports {name}: services do not import each other"
        assert not (here.parts[0] == "shared" and package in ("services", "stack")), f"{here} imports {name}"
        assert not (here.parts[0] == "services" and package == "stack"), f"{here} imports {name}"
        if package in ALLOWED_IMPORTERS:
            assert ALLOWED_IMPORTERS[package](here), f"{here} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_a_file_is_one_concept_and_has_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    names = {path.name for path in (ROOT / "services" / service).glob("*.py")}
    assert {"__init__.py", "__main__.py", "main.py", "api.py", "config.py", "store.py"} <= names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_settings_are_read_at_one_place(path: Path) -> None:
    """`Settings()` and the environment are read in main.py alone; elsewhere they are parameters."""
    if path.stem in ("main", "launcher", "control", "demo") or path.stem.startswith("bench"):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Settings"]
    assert not made, f"{relative(path)} makes Settings()"
