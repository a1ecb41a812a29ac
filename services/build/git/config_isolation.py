"""Isolates the checkouts from the configuration of folders above them.

The home may lie inside another project, as `.slipway` does in this one's own checkout. Tools that look for their
configuration in the folders above would find that project's: its rules would judge the app, and its `.gitignore` would
have a linter pass over every file and report nothing.
"""

from pathlib import Path

FILES = {
    "pytest.ini": "[pytest]\n",
    "ruff.toml": "# Ends the search for a configuration.\n",
}


def isolate(folder: Path) -> None:
    """Ends the search of the usual tools for a configuration at `folder`.

    The empty `.git` is where they stop looking for ignore files; git itself does not take it for a repository (its own
    search is ended by GIT_CEILING_DIRECTORIES).
    """
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
