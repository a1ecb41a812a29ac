"""Makes an artifact's `.venv` (its Python environment) independent of the artifact's path, so that its programs still
run after Slipway's data folder, which holds the artifacts, was moved.

Installers write the absolute path of `.venv/bin/python` into the first line of each program. That line is replaced by
lines that find the interpreter in the program's own folder, as `uv venv --relocatable` writes them.
"""

import os
import re
import shutil
from pathlib import Path

HEAD = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/%b"%b "$0" "$@"
' '''
"""


def make_relocatable(venv: Path, caches: Path) -> None:
    """Rewrites the programs in `venv/bin`, and makes links from `venv` into the folder `caches` relative, because that
    folder is moved together with `venv`. Does nothing if `venv` is a link or does not exist. Blocks.
    """
    if venv.is_symlink() or not venv.is_dir():
        return
    head = _absolute_head(venv / "bin")
    for program in (venv / "bin").glob("*"):
        if program.is_file() and not program.is_symlink():
            _free(program, head)
    for link in venv.glob("lib/python*/site-packages/*"):
        if link.is_symlink() and link.readlink().is_relative_to(caches):
            target = os.path.relpath(link.readlink(), link.parent)
            link.unlink()
            link.symlink_to(target)


def _absolute_head(folder: Path) -> re.Pattern[bytes]:
    """Returns a pattern that matches the first lines of a program, if they name an interpreter in `folder`: one line,
    or three lines for `sh`, which installers write if the path has blanks or is too long for the kernel.
    """
    interpreter = re.escape(os.fsencode(folder)) + rb"/([\w.-]+)"
    return re.compile(
        rb"#!"
        + interpreter
        + rb"([^\n]*)\n|#!/bin/sh\n'''exec' \"?"
        + interpreter
        + rb'"?((?: -\w+)*) "\$0" "\$@"\n\' \'\'\'\n'
    )


def _free(program: Path, head: re.Pattern[bytes]) -> None:
    text = program.read_bytes()
    if (found := head.match(text)) is None:
        return
    interpreter, options = (found[1], found[2]) if found[1] else (found[3], found[4])
    fresh = program.with_name(f".{program.name}.fresh")  # a file may be a link to a cache of the installer
    fresh.write_bytes(HEAD % (interpreter, options.rstrip()) + text[found.end() :])
    shutil.copymode(program, fresh)
    fresh.replace(program)
