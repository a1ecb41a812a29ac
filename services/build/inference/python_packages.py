"""Reads which Python packages a commit asks for and how they are installed."""

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from services.build.inference.inference import NotInferred
from services.build.inference.tree import Tree, table

REQUIREMENTS = "requirements.txt"
# uv reads the lock files of other tools than pip, writes requirements for pip, and is then uninstalled.
_UV, _LOCKED = "pip install --quiet uv", "${TMPDIR:-/tmp}/slipway-locked.txt"
_EXPORTS = {
    "uv.lock": [f"uv export --quiet --frozen --no-dev --no-emit-project --output-file {_LOCKED}"],
    "poetry.lock": [
        "uvx --quiet --from poetry --with poetry-plugin-export poetry export --without-hashes --no-interaction "
        f"--output {_LOCKED}"
    ],
    # Every Pipfile names an index by default, which would replace the platform's.
    "Pipfile.lock": [
        f"uvx --quiet pipenv requirements > {_LOCKED}",
        f"sed -i '/^-i https:..pypi.org.simple$/d' {_LOCKED}",
    ],
}
_LOCAL = (
    "./",
    "../",
    "/",
    "-e",
    "--editable",
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-f",
    "--find-links",
    "file:",
)


@dataclass(frozen=True)
class Installation:
    """Holds the commands that install the packages, and names in `origin` the file that lists these packages."""

    commands: tuple[str, ...]
    origin: str
    early: tuple[str, ...]
    """Files that the commands need, if they need no others; else empty."""


def is_python(tree: Tree) -> bool:
    """Returns True if the commit has a file that lists Python packages, or that describes it as a package."""
    return bool(tree.first(REQUIREMENTS, "pyproject.toml", "setup.py", "setup.cfg", "Pipfile"))


def installation(tree: Tree) -> Installation | None:
    """Returns how the packages are installed; None if the commit lists no packages. A lock file of uv, Poetry or Pipenv
    comes before other lists. Raises NotInferred if a file is not TOML.
    """
    lock = tree.first(*_EXPORTS)
    if lock is not None and lock != "Pipfile.lock" and "pyproject.toml" not in tree:
        lock = None
    if lock is not None:
        commands = [_UV, *_EXPORTS[lock], f"pip install -r {_LOCKED}", "pip uninstall --quiet --yes uv"]
        if _needs_itself(tree, lock):
            commands.append("pip install --no-deps .")
        tool = {"uv.lock": "uv", "poetry.lock": "Poetry", "Pipfile.lock": "Pipenv"}[lock]
        early: tuple[str, ...] = ("Pipfile", lock) if lock == "Pipfile.lock" else ()
        return Installation(tuple(commands), f"{lock}: what {tool} has locked, by pip", early)
    if REQUIREMENTS in tree:
        local = any(_is_local(line) for line in tree.text(REQUIREMENTS).splitlines())
        early = () if local else (REQUIREMENTS,)
        return Installation((f"pip install -r {REQUIREMENTS}",), REQUIREMENTS, early)
    if "pyproject.toml" in tree:
        pyproject = tree.toml("pyproject.toml")
        if table(pyproject, "project") or "build-system" in pyproject:
            return Installation(("pip install .",), "pyproject.toml", ())
    if "setup.py" in tree or _setup(tree).has_section("metadata"):
        return Installation(("pip install .",), "setup.py" if "setup.py" in tree else "setup.cfg", ())
    if "Pipfile" in tree:
        raise NotInferred("Pipfile", "has no Pipfile.lock beside it; run `pipenv lock` and commit what it writes")
    return None


def packages(tree: Tree) -> frozenset[str]:
    """Returns the canonical names of all packages that files of the commit list, lock files included. An extra gives a
    second name, such as `fastapi[standard]`. Raises NotInferred if a file is not TOML or JSON.
    """
    found: set[str] = set()
    for line in _requirement_lines(tree):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        found |= {name, *(f"{name}[{extra}]" for extra in requirement.extras)}
    for path in ("uv.lock", "poetry.lock"):
        locked = tree.toml(path).get("package")
        for each in locked if isinstance(locked, list) else ():
            if isinstance(each, dict) and isinstance(each.get("name"), str):
                found.add(canonicalize_name(each["name"]))
    pyproject = tree.toml("pyproject.toml")
    poetry = table(pyproject, "tool", "poetry")
    groups = table(poetry, "group").values()
    for names in (table(poetry, "dependencies"), *(table(group, "dependencies") for group in groups)):
        found |= _of_table(names)
    found |= _of_table(table(tree.toml("Pipfile"), "packages"))
    found |= _of_table(table(tree.json("Pipfile.lock"), "default"))
    return frozenset(found)


def _of_table(names: dict[str, Any]) -> set[str]:
    """Returns the canonical names of the packages in a table of Poetry or Pipenv. An extra gives a second name, such as
    `fastapi[standard]`.
    """
    found = set()
    for key, value in names.items():
        name = canonicalize_name(key)
        extras = value.get("extras") if isinstance(value, dict) else None
        found |= {name, *(f"{name}[{extra}]" for extra in (extras if isinstance(extras, list) else ()))}
    return found


def _requirement_lines(tree: Tree) -> Iterator[str]:
    for path in tree.read_paths():
        if path.endswith(".txt") and path != "runtime.txt":
            yield from (line.partition(" #")[0].partition(" --")[0].strip() for line in tree.text(path).splitlines())
    project = table(tree.toml("pyproject.toml"), "project")
    for lines in (project.get("dependencies"), *table(project, "optional-dependencies").values()):
        yield from (line for line in (lines if isinstance(lines, list) else ()) if isinstance(line, str))
    for lines in table(tree.toml("pyproject.toml"), "dependency-groups").values():
        yield from (line for line in (lines if isinstance(lines, list) else ()) if isinstance(line, str))
    yield from _setup(tree).get("options", "install_requires", fallback="").splitlines()


def _setup(tree: Tree) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read_string(tree.text("setup.cfg"))
    except configparser.Error as error:
        raise NotInferred("setup.cfg", f"cannot be read: {error.message.splitlines()[0]}") from error
    return config


def _needs_itself(tree: Tree, lock: str) -> bool:
    """Returns True if the commit itself must be installed as a package. `lock` is the name of its lock file. With uv's,
    that holds if pyproject.toml names a build system; with Poetry's, only if the commit also has a folder `src`, from
    which Python could not import otherwise.
    """
    if lock == "Pipfile.lock" or "build-system" not in tree.toml("pyproject.toml"):
        return False
    return lock == "uv.lock" or any(PurePosixPath(path).parts[0] == "src" for path in tree.paths)


def _is_local(line: str) -> bool:
    line = line.strip()
    return line.startswith(_LOCAL) or "@ file:" in line or line.endswith((".whl", ".zip", ".tar.gz"))
