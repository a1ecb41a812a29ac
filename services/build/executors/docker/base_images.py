"""Finds the images that a Dockerfile starts from, and decides when they are pulled again. Pure, but for a clock."""

import re
import time
from collections.abc import Callable, Iterable
from typing import Literal

PullRule = Literal["missing", "daily", "always"]
DAY_S = 86_400.0
AGAIN_S = 600.0

_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$", re.IGNORECASE | re.MULTILINE)
_ARG = re.compile(r"^\s*ARG\s+(\w+)=[\"']?([^\s\"']*)", re.IGNORECASE | re.MULTILINE)
_CONTINUED = re.compile(r"\\\s*\n")
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?.*?^\s*\1\s*$", re.DOTALL | re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
_OWN, _NONE, _BY_DIGEST = "slipway/", "scratch", "@"


def base_images(dockerfile: str) -> list[str]:
    """Returns the names of the images that the stages start from, each once: neither earlier stages nor `scratch`, nor
    what cannot be another one later (a name with a digest) or is in no registry (the platform's own). Arguments have
    their defaults; a name with an argument that has none is left out.
    """
    text = _HEREDOC.sub("", _CONTINUED.sub(" ", dockerfile))
    defaults = dict(_ARG.findall(text))
    stages: set[str] = set()
    found: list[str] = []
    for name, stage in _FROM.findall(text):
        image = _VARIABLE.sub(lambda each: defaults.get(each[1] or each[2]) or each[3] or "$", name)
        is_fixed = image == _NONE or _BY_DIGEST in image or image.startswith(_OWN)
        if "$" not in image and not is_fixed and image.lower() not in stages and image not in found:
            found.append(image)
        stages.add(stage.lower())
    return found


class PullSchedule:
    """Remembers, while the service runs, when images were pulled. By the rule `missing` none is pulled again, by
    `daily` each once in 24 hours, by `always` at every use; after a failure of `daily`, again 10 min later.
    """

    def __init__(self, rule: PullRule, clock: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._clock = clock
        self._next_s: dict[str, float] = {}

    def due(self, names: Iterable[str]) -> list[str]:
        if self._rule == "missing":
            return []
        return [name for name in names if self._clock() >= self._next_s.get(name, 0.0)]

    def tried(self, name: str, *, has_worked: bool) -> None:
        if self._rule == "daily":
            self._next_s[name] = self._clock() + (DAY_S if has_worked else AGAIN_S)
