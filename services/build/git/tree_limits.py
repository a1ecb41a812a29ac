"""Limits the trees of commits: number, total size, depth and names of files. Pure. A pack of a few kilobytes can name
ten thousand million files. Therefore entries are checked while git lists them, and git is ended at the first one beyond
a limit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.manifest import MIB

LONGEST_PATH = 1024  # bytes; with the home's path before it, it stays below the limit of operating systems
LONGEST_NAME = 255
DEEPEST = 100
SUBMODULE, FOLDER = "160000", "040000"
# Names that Windows and macOS also read as `.git`; git itself checks no others.
_GITS = {".git", "git~1"}
_IGNORED_BY_MACOS = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
# Control characters, line ends of any kind, and characters that change the direction of writing.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class BadTree(ValueError):
    """Reports that a commit exceeds the limits or holds a bad name. The message says why, with the remedy, worded to
    follow "the commit" ("holds more than …").
    """


@dataclass(frozen=True)
class TreeLimits:
    """Holds the limits of a commit's tree."""

    entries: int = 50_000
    """Largest number of files and folders."""
    total_bytes: int = 512 * MIB
    """Largest size of all files together, in bytes."""


@dataclass(frozen=True)
class TrackedFile:
    path: str
    mode: str
    blob: str
    size: int = 0


def files_of(entries: Iterator[bytes], limits: TreeLimits) -> list[TrackedFile]:
    """Returns the files, links and submodules in `entries`, the output of `git ls-tree -r -t -l -z`. Raises BadTree at
    the first entry that exceeds a limit or has a bad name.
    """
    files: list[TrackedFile] = []
    total = 0
    for seen, entry in enumerate(entries, 1):
        fields, _, raw = entry.partition(b"\t")
        _check_name(raw)
        if seen > limits.entries:
            raise BadTree(
                f"holds more than {limits.entries} files and folders; leave out what is made by a build, "
                "or raise SLIPWAY_BUILD_FILES"
            )
        mode, _, blob, size = fields.decode().split()
        total += int(size) if size.isdigit() else 0
        if total > limits.total_bytes:
            raise BadTree(
                f"unpacks to more than {limits.total_bytes // MIB} MB (reached at {_shown(raw)}); keep large files "
                "elsewhere, or raise SLIPWAY_BUILD_CHECKOUT_MB"
            )
        if mode != FOLDER:
            files.append(TrackedFile(raw.decode(), mode, blob, int(size) if size.isdigit() else 0))
    return files


def _check_name(raw: bytes) -> None:
    names = raw.split(b"/")
    if len(raw) > LONGEST_PATH or any(len(name) > LONGEST_NAME for name in names):
        raise BadTree(
            f"holds {_shown(raw)}, a path of {len(raw)} bytes; at most {LONGEST_PATH}, and {LONGEST_NAME} for each "
            "name: shorten it"
        )
    if len(names) > DEEPEST:
        raise BadTree(f"holds {_shown(raw)}, nested deeper than {DEEPEST} folders; flatten them")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadTree(f"holds {_shown(raw)}, a name that is not UTF-8; rename it") from None
    if _UNSHOWN.search(text):  # terminals would interpret it, and a log would get two lines
        raise BadTree(f"holds {_shown(raw)}, a name with a character that cannot be shown; rename it")
    for name in text.split("/"):
        plain = name.translate(_IGNORED_BY_MACOS).lower().rstrip(". ")
        if name in ("", ".", "..") or plain.partition(":")[0] in _GITS:
            raise BadTree(f"holds {_shown(raw)}, a name that leads elsewhere on some systems; rename it")


def _shown(raw: bytes) -> str:
    """Returns a file name for messages: in ASCII, without control characters, cut to 80 characters."""
    text = ascii(raw.decode(errors="surrogateescape"))
    return text if len(text) <= 80 else f"{text[:79]}…"
