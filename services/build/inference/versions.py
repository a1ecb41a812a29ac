"""Compares the versions of Python and Node that a commit asks for with what runs it, and chooses images by them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from services.build.inference.inference import NotInferred

_OPERATOR = re.compile(r"([<>=~^]+)\s+")


@dataclass(frozen=True)
class Wanted:
    """Holds the versions that a file asks for; any of the alternatives will do."""

    alternatives: tuple[SpecifierSet, ...]
    shown: str
    origin: str
    is_pin: bool
    """True if the file names one version, which often only says what its author has."""

    def allows(self, version: str) -> bool:
        """Returns True if the version, or with one of two parts like 3.13 any of its series, is allowed."""
        return any(each.contains(version, prereleases=True) for each in self.alternatives)


def pinned(text: str, origin: str, prefix: str, parts: int) -> Wanted | None:
    """Returns the version that a file like `.python-version` names, cut to its first `parts` numbers; None for a name
    like `lts/iron` or `pypy3.10`.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    try:
        version = Version(line.removeprefix(prefix).removeprefix("v"))
    except InvalidVersion:
        return None
    numbers = ".".join(str(number) for number in version.release[:parts])
    return Wanted((SpecifierSet(f"=={numbers}.*"),), numbers, origin, is_pin=True)


def ranged(text: str, origin: str) -> Wanted | None:
    """Returns the versions that a range of npm's, Poetry's or PEP 440's allows; None if it cannot be read, or allows
    all.
    """
    try:
        alternatives = tuple(_specifiers(each) for each in text.split("||"))
    except (InvalidSpecifier, InvalidVersion):
        return None
    return Wanted(alternatives, text.strip(), origin, is_pin=False) if all(alternatives) else None


def chosen(wanted: Wanted | None, default: str, others: tuple[str, ...], latest: Callable[[str], str]) -> str:
    """Returns the series to run in a container: `default` if it is allowed, else the first of `others` that is, else
    what is named. `latest` returns a version of a series that ranges are compared with.
    """
    for series in (default, *others):
        if wanted is None or wanted.allows(latest(series)):
            return series
    return wanted.shown if wanted is not None and wanted.is_pin else default


def mismatch(language: str, present: str, wanted: Wanted | None) -> str:
    """Returns a sentence if the version present is not what is wanted; empty if it is. Raises NotInferred if it is too
    old: below a range, or of a lower major version than a pin.
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
    """Returns the version without a `v` before it and without wildcards behind it: `v20.x` → `20`."""
    parts = version.strip().removeprefix("v").split(".")
    while len(parts) > 1 and parts[-1] in ("x", "X", "*"):
        parts.pop()
    return ".".join(parts)


def _lowest(wanted: Wanted) -> Version | None:
    """Returns the lowest version that is named as a lower bound."""
    bounds = [
        Version(spec.version.removesuffix(".*"))
        for each in wanted.alternatives
        for spec in each
        if spec.operator in (">=", ">", "==", "~=")
    ]
    return min(bounds, default=None)
