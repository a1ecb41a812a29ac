"""Reads a Procfile. Slipway runs only its line `web:`."""

from services.build.inference.inference import Guess
from services.build.inference.tree import Tree

NAME = "Procfile"


def web_command(tree: Tree) -> Guess | None:
    """Returns the command in the line `web:` of the Procfile; None if there is no such line."""
    web = _lines(tree).get("web")
    return Guess(web, f"the line web: of {NAME}") if web else None


def not_run(tree: Tree) -> list[str]:
    """Returns a sentence for each line of the Procfile other than `web:`, which says that it is not run."""
    return [f"{NAME}: {name}: is not run; Slipway runs web: alone" for name in _lines(tree) if name != "web"]


def _lines(tree: Tree) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in tree.text(NAME).splitlines():
        name, colon, command = line.partition(":")
        if colon and name and name.replace("-", "").replace("_", "").isalnum() and command.strip():
            found.setdefault(name, command.strip())
    return found
