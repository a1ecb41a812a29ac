"""Whatever the files hold, inference gives an answer or names the file: it never fails otherwise."""

import json
import random

import pytest

from services.build.inference.infer import infer
from services.build.inference.inference import NotInferred
from services.build.inference.tree import AT_ROOT, Tree
from services.build.manifest.manifest_loader import completed
from shared.manifest import Manifest

NAMES = [
    *sorted(AT_ROOT),
    "requirements.txt",
    "main.py",
    "app/main.py",
    "config/settings.py",
    "packages/a/package.json",
]
PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"'",
        b":",
        b",",
        b"=",
        b"\n",
        b"\n\n",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"\x1b[2J",
    ),
    *(b"scripts", b"start", b"build", b"engines", b"node", b"workspaces", b"packages/*", b"main", b"web: ", b"project"),
    *(
        b"[project]",
        b"dependencies",
        b"[tool.poetry.dependencies]",
        b"python",
        b"[[package]]",
        b"name",
        b">=3.11",
        b"^20",
    ),
    *(
        b"from flask import Flask",
        b"app = Flask(__name__)",
        b"app.run()",
        b"PORT",
        b"(",
        b")",
        b"3.12",
        b"lts/*",
        b"||",
        b" - ",
    ),
    *(b"null", b"1e999", b"[options]", b"install_requires", b"\xc3\xa9", b"-r x", b"__metadata:", b"outDir: 'x'"),
]
ODD_JSON: list[object] = [None, 1, "", "\ud800\x00\x1b[2J\n", [], [1], {}, {"a": 1}, True, 1e999]


def ask(files: dict[str, bytes]) -> None:
    for images in (False, True):
        for written in (None, "python x"):
            try:
                found = infer(
                    Tree(files, files),
                    images=images,
                    present={} if images else {"python": "3.11.7", "node": "20.1.0"},
                    written=written,
                )
            except NotInferred as error:
                assert error.field.split(" of ")[-1] in files
                continue
            assert (found.command is None) == bool(found.problem) or (images and "Dockerfile" in files)
            loaded = completed(Manifest(app="notes"), found, images=images)
            assert Manifest.model_validate_json(loaded.manifest.model_dump_json()) == loaded.manifest
            assert all(str(each).isprintable() for each in loaded.inferred)


def test_files_of_random_pieces() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        files = {
            name: b"".join(chance.choices(PIECES, k=chance.randint(0, 40)))
            if chance.random() < 0.8
            else chance.randbytes(200)
            for name in chance.sample(NAMES, k=chance.randint(1, 6))
        }
        ask(files)


def test_json_of_odd_values() -> None:
    for seed in range(100):
        ask(json_of_odd_values(random.Random(seed)))


def json_of_odd_values(chance: random.Random) -> dict[str, bytes]:
    keys = ["scripts", "engines", "workspaces", "main", "dependencies", "devDependencies", "packageManager", "files"]
    package: dict[str, object] = {key: chance.choice(ODD_JSON) for key in keys}
    package["scripts"] = chance.choice(
        [{"start": chance.choice(ODD_JSON), "build": chance.choice(ODD_JSON)}, package["scripts"]]
    )
    package["engines"] = chance.choice([{"node": chance.choice(ODD_JSON)}, package["engines"]])
    lock = {"default": chance.choice(ODD_JSON), "projects": {"x": chance.choice(ODD_JSON)}}
    files = {"package.json": package, "Pipfile.lock": lock, "angular.json": lock, "packages/a/package.json": package}
    return {name: json.dumps(value).encode() for name, value in files.items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("main.py", b"(" * 100_000),
        ("main.py", b"x = " + b"-" * 100_000 + b"1\n"),
        ("main.py", b"a" + b".a" * 100_000),
        ("main.py", b"app = Flask" + b"(1)" * 20_000),
        ("package.json", b"[" * 100_000),
        ("pyproject.toml", b"a = " + b"[" * 100_000),
        ("requirements.txt", b"a" * 900_000),
        ("requirements.txt", b"a[" * 300_000),
        ("Procfile", b"web:" * 200_000),
        ("vite.config.ts", b"outDir: '" * 100_000),
        ("pnpm-workspace.yaml", b"- a\n" * 200_000),
        ("pnpm-workspace.yaml", b"-" + b" " * 500_000),
        (".nvmrc", b"1." * 300_000),
    ],
)
def test_large_and_deep_files_are_answered(name: str, content: bytes) -> None:
    package = json.dumps({"scripts": {"build": "b"}, "devDependencies": {"vite": "7"}}).encode()
    files = {"package.json": package, name: content} if name != "main.py" else {name: content, "requirements.txt": b"x"}
    ask(files)
