"""Reads a Procfile, of which only the `web:` line runs."""

from services.build.inference.inference import Guess
from services.build.inference.tree import Tree

NAME = "Procfile"


def web_command(tree: Tree) -> Guess | None:
    """Returns the command of the line `web:`; None without one."""
    web = _lines(tree).get("web")
    return Guess(web, f"the line web: of {NAME}") if web else None


def not_run(tree: Tree) -> list[str]:
    """Returns a sentence for each other line."""
    return [f"{NAME}: {name}: is not run; Slipway runs web: alone" for name in _lines(tree) if name != "web"]


def _lines(tree: Tree) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in tree.text(NAME).splitlines():
        name, colon, command = line.partition(":")
        if colon and name and name.replace("-", "").replace("_", "").isalnum() and command.strip():
            found.setdefault(name, command.strip())
    return found
