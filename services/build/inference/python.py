"""Infers how a Python app is built and served."""

from pathlib import PurePosixPath

from services.build.inference.inference import Guess, LanguagePart, build_step
from services.build.inference.python_packages import Installation, installation, packages
from services.build.inference.python_source import AppObject, Module, read_module
from services.build.inference.tree import Tree, table
from services.build.inference.versions import Wanted, chosen, pinned, ranged

DEFAULT, OTHERS = "3.13", ("3.14", "3.12", "3.11", "3.10", "3.9", "3.8")
BIND = "$HOST:$PORT"
# The most likely module first; others follow in the order of depth and name.
_FIRST = ("main.py", "app.py", "wsgi.py", "asgi.py", "server.py", "app/main.py", "src/main.py", "api/main.py")
COLLECT = "python manage.py collectstatic --noinput"


def wanted(tree: Tree) -> Wanted | None:
    """Returns the version of Python that the commit asks for; None if it names none. Raises NotInferred if a file is
    not TOML.
    """
    for path, prefix in ((".python-version", "python-"), ("runtime.txt", "python-")):
        if path in tree and (found := pinned(tree.text(path), path, prefix, 2)):
            return found
    pyproject = tree.toml("pyproject.toml")
    poetry = table(pyproject, "tool", "poetry", "dependencies").get("python")
    for value, origin in (
        (table(pyproject, "project").get("requires-python"), "requires-python of pyproject.toml"),
        (poetry, "pyproject.toml"),
        (table(tree.toml("Pipfile"), "requires").get("python_version"), "Pipfile"),
    ):
        if isinstance(value, str) and (found := ranged(value, origin)):
            return found
    return None


def image(tree: Tree) -> str:
    return f"python:{chosen(wanted(tree), DEFAULT, OTHERS, lambda series: f'{series}.99')}-slim"


def part(tree: Tree) -> LanguagePart:
    """Returns how the app's packages are installed, and its static files collected. Raises NotInferred if a file is not
    TOML or JSON.
    """
    python, how = image(tree), installation(tree)
    how = how or Installation((), "", ())
    steps = [build_step("pip", python, how.commands)] if how.commands else []
    collect: tuple[str, ...] = ()
    origins = [how.origin] if how.origin else []
    if _collects(tree):
        steps.append(build_step("collectstatic", python, [COLLECT]))
        collect, origins = (COLLECT,), [*origins, "STATIC_ROOT of Django's settings"]
    return LanguagePart("python", python, ", ".join(origins), tuple(steps), how.commands, how.early, collect)


def command(tree: Tree) -> tuple[Guess | None, str]:
    """Returns the command that serves the app and an empty text, or None and the reason with the remedy. Raises
    NotInferred if a file cannot be read.
    """
    names = packages(tree)
    if django := _django(tree, names):
        return django, ""
    problem = ""
    for path in _sources(tree):
        module = read_module(tree.bytes(path))
        if module is None or module.app is None or (module.app.framework == "Django" and "manage.py" not in tree):
            continue  # Django imports its settings from the folder of manage.py
        if module.runs_at_import:
            if module.serves and "/" not in path:
                return Guess(f"python {path}", f"{path}: {module.app.framework}"), ""
            continue
        guess = _served(path, module.app, names)
        if guess is not None:
            return guess, ""
        problem = problem or _no_server(path, module.app)
    if problem:
        return None, problem
    return _plain(tree)


def _sources(tree: Tree) -> list[str]:
    paths = [path for path in tree.read_paths() if path.endswith(".py") and PurePosixPath(path).name != "manage.py"]
    importable = [path for path in paths if all(part.isidentifier() for part in path[:-3].split("/"))]
    return sorted(importable, key=lambda path: (_rank(path), path.count("/"), path))


def _rank(path: str) -> int:
    return _FIRST.index(path) if path in _FIRST else len(_FIRST)


def _module_name(path: str) -> tuple[str, str]:
    """Returns the folder to import from and the module's dotted name: `src` and `web.app` for `src/web/app.py`."""
    parts = PurePosixPath(path).with_suffix("").parts
    folder = "src" if parts[0] == "src" and len(parts) > 1 else ""
    parts = parts[1:] if folder else parts
    parts = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
    return folder, ".".join(parts)


def _served(path: str, app: AppObject, names: frozenset[str]) -> Guess | None:
    folder, module = _module_name(path)
    origin = f"{path}: {app.framework}"
    target = f"{module}:{app.name}"
    if app.interface == "asgi":
        if {"uvicorn", "fastapi[standard]", "fastapi[all]"} & names:
            factory = " --factory" if app.is_factory else ""
            place = f" --app-dir {folder}" if folder else ""
            return Guess(f"uvicorn{factory}{place} {target} --host $HOST --port $PORT", f"{origin}, served by uvicorn")
        if "hypercorn" in names and not folder and not app.is_factory:
            return Guess(f"hypercorn --bind {BIND} {target}", f"{origin}, served by hypercorn")
        return None
    call = f"'{target}()'" if app.is_factory else target
    if "gunicorn" in names:
        place = f" --chdir {folder}" if folder else ""
        return Guess(f"gunicorn --bind {BIND}{place} {call}", f"{origin}, served by gunicorn")
    if "waitress" in names and not folder:
        factory = " --call" if app.is_factory else ""
        return Guess(f"waitress-serve --listen={BIND}{factory} {target}", f"{origin}, served by waitress")
    if app.framework in ("Flask", "APIFlask"):
        place = f"{folder}/{module.replace('.', '/')}" if folder else module
        return Guess(
            f"flask --app {place}:{app.name} run --host $HOST --port $PORT",
            f"{origin}; its packages have no gunicorn, so Flask's own server runs",
        )
    return None


def _no_server(path: str, app: AppObject) -> str:
    server = "uvicorn" if app.interface == "asgi" else "gunicorn"
    return (
        f"{path} holds {app.name} of {app.framework}, but no server is among its packages; "
        f"add {server} to them, or say `run: {{command: …}}` in a slipway.yml"
    )


def _django(tree: Tree, names: frozenset[str]) -> Guess | None:
    if "manage.py" not in tree or "django" not in names:
        return None
    for server, kind in (("gunicorn", "wsgi"), ("uvicorn", "asgi")):
        found = [path for path in _sources(tree) if PurePosixPath(path).name == f"{kind}.py"]
        if server in names and found:
            module = _module_name(found[0])[1] if not found[0].startswith("src/") else found[0][:-3].replace("/", ".")
            options = f"--bind {BIND}" if server == "gunicorn" else "--host $HOST --port $PORT"
            return Guess(f"{server} {options} {module}:application", f"{found[0]}: Django, served by {server}")
    return Guess(
        f"python manage.py runserver --noreload {BIND}",
        "manage.py: Django; its packages have neither gunicorn nor uvicorn, so Django's own server runs",
    )


def _collects(tree: Tree) -> bool:
    """Returns True if the commit is a Django app whose settings assign STATIC_ROOT, the folder into which static files
    are collected.
    """
    if "manage.py" not in tree or "django" not in packages(tree):
        return False
    paths = [path for path in tree.read_paths() if path.endswith("settings.py") or "settings/" in path]
    modules = [module for path in paths if (module := read_module(tree.bytes(path)))]
    return any("STATIC_ROOT" in module.assigned for module in modules)


def _plain(tree: Tree) -> tuple[Guess | None, str]:
    """Returns the command `python FILE` for the first of app.py, main.py and server.py that calls a server or reads
    PORT, and an empty text. If none does, returns None and the reason with the remedy; the reason is empty if none of
    the files exists.
    """
    seen = [path for path in ("app.py", "main.py", "server.py") if path in tree]
    for path in seen:
        module: Module | None = read_module(tree.bytes(path))
        if module is not None and module.serves:
            return Guess(f"python {path}", f"{path}, which looks as if it serves"), ""
    if seen:
        remedy = "have it listen on $PORT, or say `run: {command: …}` in a slipway.yml"
        return None, f"{seen[0]} holds no app of WSGI or ASGI and does not look as if it serves; {remedy}"
    return None, ""
