"""Protects checkouts from tool configuration in the folders above them. The folder that holds the checkouts may lie
inside another project. That project's linter rules would then judge the app, and its `.gitignore` could make a linter
skip every file.
"""

from pathlib import Path

FILES = {
    "pytest.ini": "[pytest]\n",
    "ruff.toml": "# Ends the search for a configuration.\n",
}


def isolate(folder: Path) -> None:
    """Writes files to `folder` at which common tools stop their search for configuration in parent folders. An empty
    `.git` ends the search for ignore files; git itself does not take it for a repository.
    """
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
