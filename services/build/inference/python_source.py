"""Finds in the syntax tree of a Python file which app it serves. No code is imported or run."""

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Interface = Literal["wsgi", "asgi"]
# Dotted name of the callable that creates an app → interface and framework.
_MAKERS: dict[str, tuple[Interface, str]] = {
    "flask.Flask": ("wsgi", "Flask"),
    "bottle.Bottle": ("wsgi", "Bottle"),
    "bottle.default_app": ("wsgi", "Bottle"),
    "falcon.App": ("wsgi", "Falcon"),
    "falcon.asgi.App": ("asgi", "Falcon"),
    "django.core.wsgi.get_wsgi_application": ("wsgi", "Django"),
    "django.core.asgi.get_asgi_application": ("asgi", "Django"),
    "apiflask.APIFlask": ("wsgi", "APIFlask"),
    "connexion.FlaskApp": ("wsgi", "Connexion"),
    "fastapi.FastAPI": ("asgi", "FastAPI"),
    "fastapi.applications.FastAPI": ("asgi", "FastAPI"),
    "starlette.applications.Starlette": ("asgi", "Starlette"),
    "quart.Quart": ("asgi", "Quart"),
    "litestar.Litestar": ("asgi", "Litestar"),
    "blacksheep.Application": ("asgi", "BlackSheep"),
    "blacksheep.server.Application": ("asgi", "BlackSheep"),
    "socketio.ASGIApp": ("asgi", "Socket.IO"),
    "socketio.WSGIApp": ("wsgi", "Socket.IO"),
}
_NAMES = ("app", "application", "api", "server")  # usual variable names of an app, the most likely first
_FACTORIES = ("create_app", "make_app", "get_app", "app_factory")
_SERVES = {"serve_forever", "run_app", "run_simple", "run_forever", "start_server", "create_server", "serve", "listen"}
_NO_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class AppObject:
    """Names the variable or function of a Python module that holds or returns a web app, its interface (WSGI or ASGI)
    and its framework.
    """

    name: str
    interface: Interface
    framework: str
    is_factory: bool = False
    """True if `name` is a function that returns the app."""


@dataclass(frozen=True)
class Module:
    """Holds how a Python file serves an app, as its syntax tree shows."""

    app: AppObject | None
    runs_at_import: bool
    """True if an import of the file calls `.run()` of the app, which would never return."""
    serves: bool
    """True if the file reads the variable PORT or calls a server."""
    assigned: frozenset[str]
    """Names that are assigned at the top level of the file."""


def read_module(data: bytes) -> Module | None:
    """Returns how the file with the content `data` serves an app; None if it is not Python."""
    try:
        with warnings.catch_warnings():  # about odd escapes in the file
            warnings.simplefilter("ignore")
            root = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    try:
        return _module(root)
    except RecursionError:
        return None


def _module(root: ast.Module) -> Module:
    names = _imported(root)
    apps = [app for node in _top_level(root.body) if (app := _app_of(node, names)) is not None]
    apps += [app for node in root.body if (app := _factory_of(node, names)) is not None]
    app = min(apps, key=lambda each: (each.is_factory, _rank(each.name)), default=None)
    texts = {node.value for node in ast.walk(root) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = {_attribute(node.func) for node in ast.walk(root) if isinstance(node, ast.Call)}
    runs = any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and _dotted(node.value.func, names).endswith(".run")
        for node in _top_level(root.body)
    )
    serves = "PORT" in texts or bool(calls & _SERVES) or (app is not None and "run" in calls)
    assigned = frozenset(target for node in _top_level(root.body) for target in _targets(node))
    return Module(app, runs, serves, assigned)


def _rank(name: str) -> int:
    return _NAMES.index(name) if name in _NAMES else len(_NAMES)


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements that run when the module is imported, also those within `if`, `try` and `with`; without
    those under `if __name__ == "__main__"`.
    """
    for node in body:
        if isinstance(node, ast.If):
            if not any(isinstance(each, ast.Constant) and each.value == "__main__" for each in ast.walk(node.test)):
                yield from _top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [each for handler in node.handlers for each in handler.body]
            yield from _top_level([*node.body, *handlers, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With):
            yield from _top_level(node.body)
        elif not isinstance(node, _NO_CODE):
            yield node


def _imported(root: ast.Module) -> dict[str, str]:
    """Returns, for each import in the file, the name that the file uses → the dotted name that it stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(root):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    first = names.get(node.id, node.id) if isinstance(node, ast.Name) else ""
    return ".".join([first, *reversed(parts)])


def _attribute(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _app_of(node: ast.stmt, names: dict[str, str]) -> AppObject | None:
    """Returns the app that the statement assigns to a variable; None if it assigns none. `names` holds the file's
    imports: name → dotted name.
    """
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    targets = _targets(node)
    if not targets or not isinstance(value, ast.Call):
        return None
    made = _MAKERS.get(_dotted(value.func, names))
    if made is not None:
        return AppObject(targets[0], *made)
    if _attribute(value.func) in _FACTORIES and targets[0] in _NAMES:  # imported, or defined in this file
        return AppObject(targets[0], _likely(names), "a factory's app")
    return None


def _factory_of(node: ast.stmt, names: dict[str, str]) -> AppObject | None:
    if not isinstance(node, ast.FunctionDef) or node.name not in _FACTORIES:
        return None
    needed = len(node.args.posonlyargs) + len(node.args.args) - len(node.args.defaults)
    if needed or any(default is None for default in node.args.kw_defaults):
        return None
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and (made := _MAKERS.get(_dotted(inner.func, names))):
            return AppObject(node.name, *made, is_factory=True)
    return None


def _likely(names: dict[str, str]) -> Interface:
    asgi = {made.partition(".")[0] for made, (interface, _) in _MAKERS.items() if interface == "asgi"} - {"falcon"}
    return "asgi" if any(name.partition(".")[0] in asgi for name in names.values()) else "wsgi"
