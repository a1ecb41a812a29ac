"""Finds the images that a Dockerfile starts from, and decides when they are pulled again."""

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
    """Returns the names of the images from which the Dockerfile's stages start and which a later pull may change, each
    name once. Earlier stages, `scratch`, names with a digest and the platform's own images are not among them. An ARG
    in a name is replaced by its default value; a name with an ARG without a default is left out.
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
    """Decides when base images are pulled again; it remembers earlier pulls while the service runs. The rule `missing`
    pulls no image again, `daily` each image once in 24 hours, `always` at every use. After a failed pull, `daily` tries
    again 10 minutes later.
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
