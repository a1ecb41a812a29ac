"""The layout's rules (docs/architecture.md), read from the code's own imports."""

import ast
import fnmatch
import functools
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPS = ("services", "shared", "stack", "bench")
SOURCES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))
PACKAGES = sorted({path.parent for path in SOURCES if (path.parent / "__init__.py").exists()})
SERVICES = ("build", "deployer", "monitor", "flags", "proxy")
MOST_LINES = 300
MOST_FILES = 14
FLAT = {"services/flags"}  # 25 small files about one thing
SAME_IN_EVERY_SERVICE = {"Settings"}

# Package of the outside → the parts of the tree that may import it. A folder stands for all that is below it.
OUTSIDE = {
    "docker": ("services/build/executors/docker", "services/deployer/drivers/docker", "*/main.py"),
    "redis": (
        "*store.py",
        "*/main.py",
        "shared/registry.py",
        "shared/events.py",
        "shared/http.py",
        "shared/web/app.py",
        "bench/scale",
    ),
    "fastapi": ("*/api", "*_api.py", "services/flags/api.py", "*/main.py", "shared/web"),
    "cryptography": (
        "shared/security/vault.py",
        "services/deployer/releases/override_encryption.py",
        "services/proxy/certificates",
    ),
    "acme": ("services/proxy/certificates",),
    "josepy": ("services/proxy/certificates",),
    "grpc": ("services/keeper",),
    "google": ("services/keeper",),
}


def relative(path: Path) -> Path:
    return path.relative_to(ROOT)


def name_of(path: Path) -> str:
    return str(relative(path))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> set[str]:
    """Full dotted names that the file imports, wherever in the file; of `from a import b` both `a` and `a.b`."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@functools.cache
def own_imports(path: Path) -> frozenset[Path]:
    """The files of this tree that the file imports."""
    return frozenset(file for name in imports(path) if (file := file_of(name)) is not None)


@functools.cache
def file_of(name: str) -> Path | None:
    """The file of a module or package of this tree, by its dotted name."""
    path = ROOT / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def room_of(path: Path) -> str:
    """The package of a file; a file at the top of a service, or of shared, stands for itself."""
    here = relative(path)
    service = here.parts[:2] if here.parts[0] == "services" else here.parts[:1]
    inside = here.parts[len(service) : -1]
    return ".".join([*service, *inside]) if inside else ".".join(here.with_suffix("").parts)


def is_allowed(path: Path, places: tuple[str, ...]) -> bool:
    here = relative(path)
    return any(candidate.match(place) for place in places for candidate in (here, *here.parents))


def class_names() -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in SOURCES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name_of(path))
    return found


def may_import(path: Path, name: str) -> bool:
    here, (package, *rest) = relative(path), name.split(".")
    top = here.parts[0]
    if here.is_relative_to("services/keeper") and package in TOPS:
        return name == "services" or name.startswith("services.keeper")
    if package == "services" and rest:
        own = top == "services" and rest[0] == here.parts[1]
        return own or top == "stack" or any(here.match(f"bench/{each}/*") for each in ("scale", "canary"))
    if package in {"shared": ("services", "stack", "bench"), "services": ("stack", "bench"), "stack": ("bench",)}.get(
        top, ()
    ):
        return False
    return package not in OUTSIDE or is_allowed(path, OUTSIDE[package])


def test_a_file_imports_only_what_its_place_allows() -> None:
    found = [
        f"{relative(path)} imports {name}" for path in SOURCES for name in imports(path) if not may_import(path, name)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "name", "may"),
    [
        ("services/build/main.py", "services.build.config", True),
        ("services/build/main.py", "services.proxy.config", False),
        ("services/build/main.py", "stack.local", False),
        ("services/build/main.py", "docker", True),
        ("services/build/api/rest.py", "docker", False),
        ("services/build/api/rest.py", "redis.asyncio", False),
        ("services/keeper/keeper.py", "services.keeper.xds", True),
        ("services/keeper/keeper.py", "shared.config", False),
        ("shared/http.py", "services", False),
        ("stack/local/launcher.py", "services.deployer.shutdown", True),
        ("stack/local/launcher.py", "bench.flags", False),
        ("bench/flags.py", "services.flags.store", False),
        ("bench/scale/flags.py", "services.flags.store", True),
        ("bench/canary/cases.py", "services.monitor.analysis", True),
    ],
)
def test_who_may_import_whom(path: str, name: str, may: bool) -> None:
    assert may_import(ROOT / path, name) is may


@pytest.mark.parametrize("top", [*(f"services/{service}" for service in SERVICES), "shared", "stack", "bench"])
def test_packages_import_each_other_in_one_direction(top: str) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / top).rglob("*.py"):
        graph[room_of(path)] |= {room_of(other) for other in own_imports(path)} - {room_of(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' ← '.join(error.args[1])}")


def test_a_file_is_one_concept_and_no_longer_than_that_takes() -> None:
    assert [name_of(path) for path in SOURCES if len(path.read_text().splitlines()) > MOST_LINES] == []


def test_a_package_is_small_enough_to_be_overlooked() -> None:
    large = [name_of(folder) for folder in PACKAGES if len(list(folder.glob("*.py"))) > MOST_FILES]
    assert set(large) <= FLAT


def test_a_package_says_what_it_is_for() -> None:
    assert [name_of(folder) for folder in PACKAGES if not ast.get_docstring(parsed(folder / "__init__.py"))] == []


def test_a_class_name_stands_once() -> None:
    again = {name: places for name, places in class_names().items() if len(places) > 1}
    assert {name: places for name, places in again.items() if name not in SAME_IN_EVERY_SERVICE} == {}


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    """Pytest's default collects nothing in folders that are called build or dist."""
    names = {part for path in (ROOT / "tests").rglob("test_*.py") for part in relative(path).parts[:-1]} | {"build"}
    patterns = pytestconfig.getini("norecursedirs")
    assert [name for name in sorted(names) if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_begins_with_the_same_files(service: str) -> None:
    names = {path.name for path in (ROOT / "services" / service).glob("*.py")}
    assert {"__init__.py", "__main__.py", "main.py", "config.py"} <= names


def test_settings_are_read_at_one_place() -> None:
    """`Settings()` is made in main.py alone; elsewhere settings are parameters."""
    made = [
        name_of(path)
        for path in SOURCES
        if path.stem != "main" and relative(path).parts[0] not in ("stack", "bench")
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Settings"
    ]
    assert made == []


@pytest.mark.parametrize(
    "package",
    [path for path in PACKAGES if len(relative(path).parts) == 3 and path.parts[-3] == "services"],
    ids=name_of,
)
def test_a_packages_docstring_names_the_packages_that_it_imports(package: Path) -> None:
    service, text = package.parent, " ".join((package / "__init__.py").read_text().split())
    others = {
        relative(other).parts[2]
        for path in package.rglob("*.py")
        for other in own_imports(path)
        if other.is_relative_to(service) and other.parent != service
    } - {package.name}
    may = re.search(r"May import (.*?)(?:\. |$)", text)
    named = set(re.findall(r"`(\w+)", may[1])) if may else set()

    assert "every other package" in text or others <= named, f"{sorted(others - named)} is imported, and not named"
