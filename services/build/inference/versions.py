"""Compares the versions of Python and Node that a commit asks for with those on the machine, and chooses versions of
images.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from services.build.inference.inference import NotInferred

_OPERATOR = re.compile(r"([<>=~^]+)\s+")


@dataclass(frozen=True)
class Wanted:
    """Holds the versions that a file of the commit asks for; any of `alternatives` will do."""

    alternatives: tuple[SpecifierSet, ...]
    shown: str
    """Version or range as the file writes it, for messages."""
    origin: str
    """Name of the file."""
    is_pin: bool
    """True if the file names a single version, not a range. It is often merely the version that its author uses."""

    def allows(self, version: str) -> bool:
        """Returns True if one of `alternatives` allows the version."""
        return any(each.contains(version, prereleases=True) for each in self.alternatives)


def pinned(text: str, origin: str, prefix: str, parts: int) -> Wanted | None:
    """Returns the version in `text`, the content of a file like `.python-version`, cut to its first `parts` numbers.
    `prefix` may stand before the version; `origin` is the file's name. Returns None for a name like `lts/iron` or
    `pypy3.10`.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    try:
        version = Version(line.removeprefix(prefix).removeprefix("v"))
    except InvalidVersion:
        return None
    numbers = ".".join(str(number) for number in version.release[:parts])
    return Wanted((SpecifierSet(f"=={numbers}.*"),), numbers, origin, is_pin=True)


def ranged(text: str, origin: str) -> Wanted | None:
    """Returns the versions that a range in the syntax of npm, Poetry or PEP 440 allows; None if it cannot be read or
    allows all versions. `origin` names the file.
    """
    try:
        alternatives = tuple(_specifiers(each) for each in text.split("||"))
    except (InvalidSpecifier, InvalidVersion):
        return None
    return Wanted(alternatives, text.strip(), origin, is_pin=False) if all(alternatives) else None


def chosen(wanted: Wanted | None, default: str, others: tuple[str, ...], latest: Callable[[str], str]) -> str:
    """Returns the version series (such as 3.13) to run in a container: `default` if `wanted` allows it, else the first
    allowed one of `others`, else the one that `wanted` pins, else `default`. `latest` returns the newest version of a
    series.
    """
    for series in (default, *others):
        if wanted is None or wanted.allows(latest(series)):
            return series
    return wanted.shown if wanted is not None and wanted.is_pin else default


def mismatch(language: str, present: str, wanted: Wanted | None) -> str:
    """Returns a sentence for the build's log if `wanted` does not allow the version `present` of the machine; else an
    empty text. Raises NotInferred if that version is too old: below the range, or of a lower major version than the
    single version named.
    """
    if wanted is None or wanted.allows(present):
        return ""
    detail = f"asks for {language} {wanted.shown}, but {language} {present} is on this machine"
    lowest = _lowest(wanted)
    too_old = lowest is not None and (
        Version(present).major < lowest.major if wanted.is_pin else Version(present) < lowest
    )
    if too_old:
        raise NotInferred(wanted.origin, f"{detail}; install it there, or use containers")
    return f"{wanted.origin} {detail}, and runs it"


def _specifiers(text: str) -> SpecifierSet:
    text = _OPERATOR.sub(r"\1", text.strip()).replace(",", " ")
    low, dash, high = text.partition(" - ")
    if dash:
        return SpecifierSet(f">={_plain(low)},<={_plain(high)}")
    return SpecifierSet(",".join(filter(None, map(_specifier, text.split()))))


def _specifier(token: str) -> str:
    operator = token[: len(token) - len(token.lstrip("<>=~^!"))]
    version = _plain(token[len(operator) :])
    if version in ("", "*", "x", "X", "latest", "node", "current"):
        return ""
    if operator in ("", "=", "^", "~"):
        numbers = list(Version(version).release)
        if operator == "^":
            place = next((at for at, number in enumerate(numbers) if number), 0)
        elif operator == "~":
            place = min(1, len(numbers) - 1)
        else:
            place = len(numbers) - 1
        same = ".".join(map(str, numbers[: place + 1]))
        return f">={version},=={same}.*" if operator in ("^", "~") else f"=={same}.*"
    return f"{operator}{token[len(operator) :]}" if operator in ("==", "!=", "~=", "===") else f"{operator}{version}"


def _plain(version: str) -> str:
    """Returns a version without a leading `v` and without trailing wildcards: `20` for `v20.x`."""
    parts = version.strip().removeprefix("v").split(".")
    while len(parts) > 1 and parts[-1] in ("x", "X", "*"):
        parts.pop()
    return ".".join(parts)


def _lowest(wanted: Wanted) -> Version | None:
    """Returns the lowest version that a lower bound or an exact version in `wanted` names; None if there is none."""
    bounds = [
        Version(spec.version.removesuffix(".*"))
        for each in wanted.alternatives
        for spec in each
        if spec.operator in (">=", ">", "==", "~=")
    ]
    return min(bounds, default=None)
