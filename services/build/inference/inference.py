"""Defines the result of inference: the command that runs an app, and the parts, one for each language, that build
it.
"""

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
    """Reports that a file of the commit cannot be understood. `field` names the file or its entry; the detail continues
    a sentence that begins with `field`, and names a remedy.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.field = field
        self.detail = detail


@dataclass(frozen=True)
class Guess:
    """Holds an inferred value, such as the command of an app, and names in `origin` the files that it comes from."""

    value: str
    origin: str


@dataclass(frozen=True)
class LanguagePart:
    """Describes how the code of one language in a commit is built. Executors use it in two ways: as steps, which run in
    the checkout, and as a stage of a Dockerfile.
    """

    language: Language
    image: str
    """Public image in which the steps run and the app is built, such as `python:3.13-slim`."""
    origin: str
    """Files that the commands were inferred from."""
    steps: tuple[Step, ...] = ()
    """Steps of the stages build and test."""
    install: tuple[str, ...] = ()
    """Commands that install the packages that the running app needs, for a Dockerfile only."""
    early: tuple[str, ...] = ()
    """Files that `install` needs, if it needs no others, so that the image's layer is reused until one of them changes;
    else empty.
    """
    build: tuple[str, ...] = ()
    """Commands that follow `install` in a Dockerfile, once all files of the commit are copied."""
    takes: tuple[str, ...] = ()
    """Folders that the image's stage of this part copies from the stage before it; empty: all files."""


@dataclass(frozen=True)
class Inference:
    """Holds how a commit is built and run, as its files say. Entries of the manifest take precedence."""

    command: Guess | None
    """Command that runs the app; None if no file names one, or if only a Dockerfile does."""
    steps: tuple[Step, ...] = ()
    stages: tuple[LanguagePart, ...] = ()
    """Parts that an image is built from, in order; the last one runs the app. Empty if a Dockerfile is used."""
    origins: tuple[str, ...] = ()
    """Files that the steps were inferred from."""
    said: tuple[str, ...] = ()
    """Sentences for the build's log about files that are ignored, and about versions that differ from those that files
    ask for.
    """
    problem: str = ""
    """Reason why there is no command, with the remedy, in which `APP` stands for the app's name; empty if there is a
    command or a Dockerfile."""
    images: tuple[tuple[Language, str], ...] = ()
    """(language, image) for the steps that name no image; the last one is the language that runs the app."""

    def image_of(self, commands: Sequence[str]) -> str:
        """Returns the image for a step without an image of its own: that of the language to which the first recognised
        program of `commands` belongs, else that of the language that runs the app.
        """
        images = dict(self.images)
        found = next((each for command in commands if (each := language_of(command))), None)
        return images[found] if found else self.images[-1][1]


def language_of(command: str) -> Language | None:
    """Returns the language of the program that begins the command: `python` for `pip install`; None if unknown."""
    return next((language for language, programs in _PROGRAMS.items() if programs.match(command)), None)


def build_step(name: str, image: str, commands: Sequence[str], stage: Stage = Stage.BUILD) -> Step:
    return Step(name=name, stage=stage, image=image, commands=list(commands))
