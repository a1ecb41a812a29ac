"""Defines what is inferred of a commit: the command that runs it, and parts, one for each language, that build it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.manifest import Stage, Step

Language = Literal["python", "node"]
APP = "{app}"  # stands for the app's name in a problem, which files do not tell
_PROGRAMS: dict[Language, re.Pattern[str]] = {
    "node": re.compile(r"^\s*(npm|npx|node|yarn|pnpm|corepack)\b"),
    "python": re.compile(r"^\s*(exec\s+)?(python3?|pip3?|pytest|gunicorn|uvicorn|flask|hypercorn|uv|django-admin)\b"),
}


class NotInferred(ValueError):
    """Reports that a file of the commit cannot be understood; the detail is a predicate of which `field` is the
    subject, with the remedy.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.field = field
        self.detail = detail


@dataclass(frozen=True)
class Guess:
    """Holds a command with the files that it was inferred from."""

    value: str
    origin: str


@dataclass(frozen=True)
class LanguagePart:
    """Describes how one language's share of a commit is built. Executors render it in two ways: as steps, which run in
    the checkout, and as a stage of a Dockerfile.
    """

    language: Language
    image: str
    """Public image in which the steps run and the app is built."""
    origin: str
    """Files that the commands were inferred from."""
    steps: tuple[Step, ...] = ()
    """Steps of the stages build and test."""
    install: tuple[str, ...] = ()
    """Commands that install packages, without what only development needs. Only a Dockerfile has them."""
    early: tuple[str, ...] = ()
    """Names of the files that `install` needs, if it needs no others: an image's layer then outlives other changes."""
    build: tuple[str, ...] = ()
    """Commands that follow `install` in a Dockerfile, with all files in place."""
    takes: tuple[str, ...] = ()
    """Folders that this part takes over from the part before it; empty: all files."""


@dataclass(frozen=True)
class Inference:
    """Holds what a commit's files say. What a manifest writes itself takes precedence."""

    command: Guess | None
    """Command that runs the app; None if no file says it, or if a Dockerfile does."""
    steps: tuple[Step, ...] = ()
    stages: tuple[LanguagePart, ...] = ()
    """Parts that an image is built from, in order; the last one runs the app. Empty if the commit has a Dockerfile that
    is used.
    """
    origins: tuple[str, ...] = ()
    """Files that the steps were inferred from."""
    said: tuple[str, ...] = ()
    """Sentences about what is ignored, or differs from what the files ask for."""
    problem: str = ""
    """Reason why there is no command, with the remedy, in which `APP` stands for the app's name; empty if there is one,
    or a Dockerfile."""
    images: tuple[tuple[Language, str], ...] = ()

    def image_of(self, commands: Sequence[str]) -> str:
        """Returns the image for a step that names none: of the language that its first command belongs to, else of the
        language that runs the app.
        """
        images = dict(self.images)
        found = next((each for command in commands if (each := language_of(command))), None)
        return images[found] if found else self.images[-1][1]


def language_of(command: str) -> Language | None:
    """Returns the language to which the program belongs that the command begins with; None for any other program."""
    return next((language for language, programs in _PROGRAMS.items() if programs.match(command)), None)


def build_step(name: str, image: str, commands: Sequence[str], stage: Stage = Stage.BUILD) -> Step:
    return Step(name=name, stage=stage, image=image, commands=list(commands))
