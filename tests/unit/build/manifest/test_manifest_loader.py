"""Tests how a manifest is completed by what was inferred."""

import pytest

from services.build.builds.build import Inferred
from services.build.inference.inference import Guess, Inference, build_step
from services.build.manifest.manifest_loader import completed, with_port
from services.build.manifest.manifest_parser import parse_manifest
from shared.manifest import Manifest

FOUND = Inference(
    Guess("npm start", "the script start:\n\x1b[2J x"),
    (build_step("npm", "node:20-slim", ["npm ci"]),),
    origins=("package.json", "package.json"),
    images=(("node", "node:22-slim"), ("python", "python:3.12-slim")),
)


def test_only_what_is_missing_is_inferred_and_told_on_one_line() -> None:
    loaded = completed(parse_manifest(b"app: notes\nrun: {health: /there}\n", "notes"), FOUND, images=False)
    run = loaded.manifest.run
    assert (run.command, run.command_from, run.health) == ("npm start", "the script start:  [2J x", "/there")
    assert loaded.inferred == (
        Inferred(key="steps", value="npm", origin="package.json"),
        Inferred(key="run", value="npm start", origin="the script start:  [2J x"),
    )


@pytest.mark.parametrize("text", [b"app: notes\nsteps: []\nrun: {command: x}\n"])
def test_what_is_written_stays(text: bytes) -> None:
    manifest = parse_manifest(text, "notes")
    assert completed(manifest, FOUND, images=True).manifest == manifest


def test_a_written_step_gets_the_image_of_its_language_where_there_are_images() -> None:
    text = (
        b"app: x\nsteps: [{name: a, commands: [npm x]}, {name: b, commands: [y]}, {name: c, image: z, commands: [y]}]\n"
    )
    manifest = parse_manifest(text, "x")
    images = ["node:22-slim", "python:3.12-slim", "z"]
    assert [step.image for step in completed(manifest, FOUND, images=True).manifest.steps] == images
    assert [step.image for step in completed(manifest, FOUND, images=False).manifest.steps] == [None, None, "z"]


@pytest.mark.parametrize(
    ("run", "exposed", "port"),
    [
        ({}, [9000], 9000),
        ({"port": 7000}, [9000], 7000),
        ({"port": 8000}, [9000], 8000),
        ({}, [80, 443, 2019], 80),
        ({}, [80, 8000], 8000),
        ({}, [9000, 9001], 8000),
        ({}, [8000], 8000),
        ({}, [], 8000),
    ],
)
def test_the_port_that_an_image_exposes_counts_if_none_is_written(
    run: dict[str, int], exposed: list[int], port: int
) -> None:
    manifest = Manifest.model_validate({"app": "notes", "run": {"command": "x", **run}})
    loaded = with_port(completed(manifest, Inference(None, images=FOUND.images), images=True), exposed)
    assert loaded.manifest.run.port == port
    said = Inferred(key="run.port", value=str(port), origin="EXPOSE of the image")
    assert loaded.inferred == ((said,) if port not in (8000, 7000) else ())
