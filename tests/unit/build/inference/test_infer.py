"""Tests what is inferred from small trees of files, for processes and for containers."""

import json
from collections.abc import Mapping

import pytest

from services.build.inference.infer import infer
from services.build.inference.inference import Inference, NotInferred
from services.build.inference.static import SERVE
from services.build.inference.tree import Tree, worth_reading

PRESENT = {"python": "3.11.7", "node": "20.20.2"}
FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
FLASK = "import flask as f\napp: f.Flask = f.Flask(__name__)\n"
MANAGE = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings')\n"
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
DJANGO = {
    "manage.py": MANAGE,
    "config/__init__.py": "",
    "config/wsgi.py": WSGI,
    "config/settings.py": "DEBUG = False\n",
}
POETRY = '[tool.poetry.dependencies]\npython = "^3.11"\nfastapi = {version = "*", extras = ["standard"]}\n'
VITE = {"scripts": {"dev": "vite", "build": "tsc && vite build"}, "devDependencies": {"vite": "^7"}}


def tree(files: Mapping[str, object]) -> Tree:
    contents = {name: _bytes(content) for name, content in files.items()}
    return Tree(contents, {path: contents[path] for path in worth_reading(contents)})


def _bytes(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def inferred(files: Mapping[str, object], *, images: bool = False, written: str | None = None) -> Inference:
    return infer(tree(files), images=images, present={} if images else PRESENT, written=written)


def commands(found: Inference) -> list[str]:
    return [command for step in found.steps for command in step.commands]


PYTHON: list[tuple[dict[str, object], str | None, str]] = [
    # a server among the packages
    (
        {"main.py": FASTAPI, "requirements.txt": "fastapi\nuvicorn[standard]~=0.30\n"},
        "uvicorn main:app",
        "main.py: FastAPI",
    ),
    ({"main.py": FASTAPI, "requirements.txt": "fastapi[standard]>=0.115"}, "uvicorn main:app", "main.py: FastAPI"),
    ({"app/main.py": FASTAPI, "app/__init__.py": "", "pyproject.toml": POETRY}, "uvicorn app.main:app", "app/main.py"),
    (
        {"src/web/main.py": FASTAPI, "requirements.txt": "uvicorn"},
        "uvicorn --app-dir src web.main:app",
        "src/web/main.py",
    ),
    (
        {"app.py": FLASK, "requirements.txt": "Flask==3\ngunicorn==23"},
        "gunicorn --bind $HOST:$PORT app:app",
        "app.py: Flask",
    ),
    ({"app.py": FLASK, "requirements/prod.txt": "gunicorn", "requirements.txt": "flask"}, "gunicorn", "app.py: Flask"),
    ({"app.py": FLASK, "Pipfile": "[packages]\ngunicorn = '*'\n", "Pipfile.lock": {}}, "gunicorn", "app.py: Flask"),
    ({"app.py": FLASK, "setup.cfg": "[options]\ninstall_requires =\n  flask\n  gunicorn\n"}, "gunicorn", "app.py"),
    ({"app.py": FLASK, "pyproject.toml": "", "uv.lock": "[[package]]\nname = 'gunicorn'\n"}, "gunicorn", "app.py"),
    (
        {"app.py": FLASK, "requirements.txt": "flask\nwaitress"},
        "waitress-serve --listen=$HOST:$PORT app:app",
        "waitress",
    ),
    # its own server otherwise
    (
        {"app.py": FLASK, "requirements.txt": "flask"},
        "flask --app app:app run --host $HOST --port $PORT",
        "no gunicorn",
    ),
    (
        {
            "flaskr/__init__.py": "from flask import Flask\ndef create_app(config=None):\n    return Flask(__name__)\n",
            "pyproject.toml": "[project]\nname='flaskr'\ndependencies=['flask','gunicorn']\n",
        },
        "gunicorn --bind $HOST:$PORT 'flaskr:create_app()'",
        "flaskr/__init__.py: Flask",
    ),
    (
        {"app.py": FLASK + "if __name__ == '__main__':\n    app.run()\n", "requirements.txt": "flask"},
        "flask --app",
        "app.py",
    ),
    (
        {"app.py": FLASK + "import os\napp.run(port=os.environ['PORT'])\n", "requirements.txt": "flask"},
        "python app.py",
        "",
    ),
    # Django
    (
        {**DJANGO, "requirements.txt": "django\ngunicorn"},
        "gunicorn --bind $HOST:$PORT config.wsgi:app",
        "config/wsgi.py: Django",
    ),
    (
        {**DJANGO, "requirements.txt": "Django"},
        "python manage.py runserver --noreload $HOST:$PORT",
        "manage.py: Django",
    ),
    (
        {**DJANGO, "requirements.txt": "django", "package.json": {"scripts": {"start": "webpack --watch"}}},
        "python manage.py",
        "",
    ),
    # a file that serves by itself
    ({"app.py": "import os\nprint(os.environ['PORT'])\n"}, "python app.py", "app.py, which looks as if it serves"),
    (
        {"main.py": "from aiohttp import web\nweb.run_app(1)\n", "requirements.txt": "aiohttp"},
        "python main.py",
        "main.py",
    ),
    # what does not run
    (
        {"main.py": FASTAPI, "requirements.txt": "fastapi"},
        None,
        "main.py holds app of FastAPI, but no server is among its",
    ),
    (
        {"main.py": "print('hello')\n", "pyproject.toml": ""},
        None,
        "main.py holds no app of WSGI or ASGI and does not look",
    ),
    ({"main.py": "print 'hello'\n"}, None, "main.py holds no app of WSGI or ASGI"),
    ({"requirements.txt": "x"}, None, "requirements.txt does not tell how to run it; add a slipway.yml"),
    ({"my-app/main.py": FASTAPI, "requirements.txt": "uvicorn"}, None, "does not tell how to run it"),
    # a Procfile comes first
    (
        {"main.py": FASTAPI, "requirements.txt": "uvicorn", "Procfile": "release: x\nweb: python x.py\n"},
        "python x.py",
        "Procfile",
    ),
]


@pytest.mark.parametrize(("files", "command", "words"), PYTHON)
@pytest.mark.parametrize("images", [False, True])
def test_how_a_python_app_is_served(files: dict[str, object], command: str | None, words: str, images: bool) -> None:
    found = inferred(files, images=images)
    if command is None:
        assert found.command is None
        assert words in found.problem
    else:
        assert found.command is not None, found.problem
        assert found.command.value.startswith(command)
        assert words in found.command.origin


PNPM = "lockfileVersion: '9.0'\n"
START = {"scripts": {"start": "node server.js"}}
NODE: list[tuple[dict[str, object], str | None, list[str]]] = [
    ({"package.json": START, "package-lock.json": {}}, "npm start", ["npm ci"]),
    ({"package.json": START}, "npm start", ["npm install"]),
    ({"package.json": {"scripts": {"start": "n", "test": "jest"}}}, "npm start", ["npm install", "npm test"]),
    (
        {"package.json": {"scripts": {"start": "n", "test": "echo Error: no test specified"}}},
        "npm start",
        ["npm install"],
    ),
    (
        {"package.json": {"scripts": {"start": "next start", "build": "next build"}}, "package-lock.json": {}},
        "npm start",
        ["npm ci", "npm run build"],
    ),
    (
        {"package.json": {"scripts": {"start": "n", "build": "b"}}, "pnpm-lock.yaml": PNPM},
        "npm start",
        ["npx --yes pnpm@9 install --frozen-lockfile", "npx --yes pnpm@9 run build"],
    ),
    (
        {"package.json": {**START, "packageManager": "pnpm@10.4.1+sha512.x"}, "pnpm-lock.yaml": PNPM},
        "npm start",
        ["npx --yes pnpm@10.4.1 install --frozen-lockfile"],
    ),
    (
        {"package.json": START, "pnpm-lock.yaml": "lockfileVersion: 5.4\n"},
        "npm start",
        ["npx --yes pnpm@7 install --frozen-lockfile"],
    ),
    (
        {"package.json": START, "yarn.lock": "# yarn lockfile v1\n"},
        "npm start",
        ["npx --yes yarn@1 install --frozen-lockfile"],
    ),
    (
        {"package.json": START, "yarn.lock": "__metadata:\n  version: 8\n"},
        "npm start",
        ["YARN_NODE_LINKER=node-modules npx --yes @yarnpkg/cli-dist@4 install --immutable"],
    ),
    ({"package.json": {"main": "./lib/index.js"}, "lib/index.js": ""}, "node lib/index.js", ["npm install"]),
    ({"package.json": {}, "server.js": ""}, "node server.js", ["npm install"]),
    (
        {
            "package.json": {"workspaces": ["packages/*"]},
            "packages/web/package.json": {"scripts": {"start": "n", "build": "b"}},
        },
        "npm --prefix packages/web start",
        ["npm install", "npm run --workspaces --if-present build"],
    ),
    ({"package.json": VITE}, SERVE, ["npm install", "npm run build"]),
    (
        {
            "package.json": {
                "scripts": {"start": "react-scripts start", "build": "b"},
                "dependencies": {"react-scripts": "5"},
            }
        },
        SERVE,
        ["npm install", "npm run build"],
    ),
    ({"package.json": {}}, None, ["package.json has neither a script start nor a main"]),
    ({"package.json": ["start"]}, None, ["package.json has neither a script start nor a main"]),
    ({"package.json": {"scripts": {"build": "make"}}}, None, ["nothing tells what a build writes; add a slipway.yml"]),
]


@pytest.mark.parametrize(("files", "command", "words"), NODE)
@pytest.mark.parametrize("images", [False, True])
def test_how_a_node_app_is_run(files: dict[str, object], command: str | None, words: list[str], images: bool) -> None:
    found = inferred(files, images=images)
    if command is None:
        assert words[0] in found.problem
    else:
        assert found.command is not None, found.problem
        assert found.command.value == command
        assert commands(found)[: len(words)] == words
        assert ("static" in [step.name for step in found.steps]) == (command == SERVE)


def test_both_executors_run_the_same_steps_and_command() -> None:
    for files, *_ in PYTHON + NODE:
        process, container = inferred(files), inferred(files, images=True)
        assert (process.command, process.steps) == (container.command, container.steps)


def test_an_index_alone_is_a_site() -> None:
    found = inferred({"index.html": "", "style.css": "", ".env": "", "slipway.yml": ""})
    assert found.command is not None
    assert found.command.value == SERVE
    assert [step.name for step in found.steps] == ["static"]
    assert inferred({"index.html": "", "app.py": "import os\nos.environ['PORT']\n"}).command.value == "python app.py"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        ({"package.json": VITE}, "dist"),
        ({"package.json": VITE, "vite.config.ts": "export default {build: {outDir: 'www'}}"}, "www"),
        (
            {
                "package.json": {
                    "scripts": {"start": "ng serve", "build": "ng build"},
                    "devDependencies": {"@angular/cli": "20"},
                },
                "angular.json": {"projects": {"shop": {"architect": {"build": {"options": {}}}}}},
            },
            "dist/shop/browser",
        ),
    ],
)
def test_what_a_build_writes_is_served(files: dict[str, object], folder: str) -> None:
    found = inferred(files, images=True)
    assert [part.language for part in found.stages] == ["node", "python"]
    assert found.stages[-1].takes == (folder,)
    assert f"copytree('{folder}', '.slipway-site'" in found.steps[-1].commands[-1]


def test_django_collects_its_static_files_if_it_says_where() -> None:
    files: dict[str, object] = {**DJANGO, "requirements.txt": "django\ngunicorn"}
    assert commands(inferred(files)) == ["pip install -r requirements.txt"]
    there = inferred({**files, "config/settings.py": "STATIC_ROOT = 'static'\n"}, images=True)
    assert commands(there)[-1] == "python manage.py collectstatic --noinput"
    assert there.stages[0].build == ("python manage.py collectstatic --noinput",)


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        (
            "uv.lock",
            "uv export --quiet --frozen --no-dev --no-emit-project --output-file ${TMPDIR:-/tmp}/slipway-locked.txt",
        ),
        ("poetry.lock", "uvx --quiet --from poetry --with poetry-plugin-export poetry export"),
        ("Pipfile.lock", "uvx --quiet pipenv requirements"),
    ],
)
def test_a_lock_file_decides_what_is_installed(lock: str, command: str) -> None:
    files = {
        lock: "{}" if lock == "Pipfile.lock" else "",
        "pyproject.toml": "[project]\nname='x'\n",
        "requirements.txt": "y",
    }
    found = inferred({**files, "Procfile": "web: x"})
    assert commands(found)[1].startswith(command)
    assert commands(found)[-2:] == [
        "pip install -r ${TMPDIR:-/tmp}/slipway-locked.txt",
        "pip uninstall --quiet --yes uv",
    ]
    assert lock in found.origins[0]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("go.mod", "this looks like Go (go.mod), which needs a Dockerfile"),
        ("Gemfile", "this looks like Ruby (Gemfile), which needs a Dockerfile"),
        ("composer.json", "this looks like PHP (composer.json), which needs a Dockerfile"),
        ("pom.xml", "this looks like Java (pom.xml), which needs a Dockerfile"),
        ("Cargo.toml", "this looks like Rust (Cargo.toml), which needs a Dockerfile"),
        ("shop.csproj", "this looks like .NET (shop.csproj), which needs a Dockerfile"),
        ("README", "nothing tells what this app is; add a slipway.yml"),
    ],
)
@pytest.mark.parametrize("images", [False, True])
def test_other_languages_are_named(file: str, words: str, images: bool) -> None:
    found = inferred({file: ""}, images=images)
    assert words in found.problem
    assert ("SLIPWAY_DRIVER=docker" in found.problem) == (not images and file != "README")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            ["backend/pyproject.toml", "backend/app/main.py", "frontend/package.json"],
            "backend, frontend look like apps of",
        ),
        (["mysite/manage.py", "mysite/mysite/wsgi.py"], 'mysite looks like an app; PUT /apps/{app} {"root": "mysite"}'),
        (
            ["services/web/index.html", "README"],
            'services/web looks like an app; PUT /apps/{app} {"root": "services/web"}',
        ),
        (["requirements.txt", "docs/index.html"], "requirements.txt does not tell how to run it"),
    ],
)
def test_an_app_in_a_folder_is_pointed_at(paths: list[str], words: str) -> None:
    modules = {"wsgi.py": WSGI, "main.py": FASTAPI}
    files: dict[str, object] = {path: modules.get(path.rpartition("/")[2], "") for path in paths}
    assert words in inferred(files).problem


def test_a_dockerfile_builds_where_artifacts_are_images() -> None:
    files: dict[str, object] = {"Dockerfile": "FROM scratch", "Gemfile": ""}
    found = inferred(files, images=True)
    assert (found.command, found.problem, found.steps, found.stages) == (None, "", (), ())
    assert "a Dockerfile is used only where apps are containers" in inferred(files).problem
    beside = {**files, "package.json": {"scripts": {"start": "node .", "test": "jest", "build": "b"}}}
    assert [step.name for step in inferred(beside, images=True).steps] == ["npm", "build", "test"]
    assert inferred(beside, images=True).command is None
    assert inferred(beside).command.value == "npm start"  # type: ignore[union-attr]
    assert inferred({**beside, "Procfile": "web: run it"}, images=True).command.value == "run it"  # type: ignore[union-attr]


def test_a_dockerfile_is_used_or_said_to_be_ignored() -> None:
    files = {"Dockerfile": "FROM scratch", "index.html": ""}
    assert [said.partition(" is ignored")[0] for said in inferred(files).said] == ["Dockerfile"]
    assert inferred(files, images=True).said == ()


def test_what_is_ignored_is_said() -> None:
    files = {
        "Procfile": "web: x\nworker: y\nrelease: z\n",
        "package.json": START,
        "yarn.lock": "",
        "package-lock.json": {},
        "bun.lock": "",
    }
    assert inferred(files).said == (
        "Procfile: worker: is not run; Slipway runs web: alone",
        "Procfile: release: is not run; Slipway runs web: alone",
        "package-lock.json is ignored: yarn installs",
        "bun.lock is ignored: Bun is not run",
    )


@pytest.mark.parametrize(
    ("files", "image"),
    [
        ({"Procfile": "web: python x"}, "python:3.13-slim"),
        ({"Procfile": "web: python x", ".python-version": "3.12.4\n"}, "python:3.12-slim"),
        ({"Procfile": "web: python x", "runtime.txt": "python-3.11.2"}, "python:3.11-slim"),
        (
            {"Procfile": "web: python x", "pyproject.toml": "[project]\nname='x'\nrequires-python='>=3.11,<3.13'\n"},
            "python:3.12-slim",
        ),
        ({"Procfile": "web: python x", "pyproject.toml": POETRY}, "python:3.13-slim"),
        ({"Procfile": "web: python x", ".python-version": "pypy3.10\n"}, "python:3.13-slim"),
        ({"package.json": START}, "node:20-slim"),
        ({"package.json": {**START, "engines": {"node": ">=18"}}}, "node:20-slim"),
        ({"package.json": {**START, "engines": {"node": "^22.1"}}}, "node:22-slim"),
        ({"package.json": {**START, "engines": {"node": "18.x || 19"}}}, "node:18-slim"),
        ({"package.json": START, ".nvmrc": "v23.1.0"}, "node:23-slim"),
        ({"package.json": START, ".nvmrc": "lts/iron"}, "node:20-slim"),
        ({"package.json": {**START, "engines": {"node": "what?"}}}, "node:20-slim"),
    ],
)
def test_the_image_follows_the_version(files: dict[str, object], image: str) -> None:
    assert inferred(files, images=True).stages[-1].image == image


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"requirements.txt": "", ".python-version": "3.12"},
            ".python-version asks for Python 3.12, but Python 3.11.7 is on",
        ),
        (
            {"package.json": START, ".nvmrc": "18"},
            ".nvmrc asks for Node 18, but Node 20.20.2 is on this machine, and runs it",
        ),
        ({"package.json": {**START, "engines": {"node": "<20"}}}, "engines of package.json asks for Node <20, but"),
    ],
)
def test_another_version_on_the_machine_is_said(files: dict[str, object], said: str) -> None:
    found = inferred({**files, "Procfile": "web: x"})
    assert said in found.said[-1]
    assert inferred({**files, "Procfile": "web: x"}, images=True).said == ()


@pytest.mark.parametrize(
    "files",
    [
        {"package.json": {**START, "engines": {"node": ">=22"}}},
        {"package.json": START, ".nvmrc": "22"},
        {"pyproject.toml": "[project]\nname='x'\nrequires-python='>=3.13'\n", "Procfile": "web: x"},
    ],
)
def test_a_version_that_is_too_old_is_refused(files: dict[str, object]) -> None:
    with pytest.raises(NotInferred, match=r"is on this machine; install it there, or use containers"):
        inferred(files)


@pytest.mark.parametrize("files", [{"package.json": "{"}, {"pyproject.toml": "="}, {"Pipfile": ""}, {"setup.cfg": "x"}])
def test_a_file_that_cannot_be_read_is_named(files: dict[str, object]) -> None:
    with pytest.raises(NotInferred) as caught:
        inferred(files, written="x")
    assert caught.value.field == next(iter(files))


def test_a_written_command_decides_the_language_of_the_image() -> None:
    files: dict[str, object] = {"package.json": {"scripts": {"build": "b", "start": "s"}}, "requirements.txt": "flask"}
    assert [part.language for part in inferred(files, images=True, written="gunicorn x").stages] == ["node", "python"]
    assert [part.language for part in inferred(files, images=True, written="node x").stages] == ["node"]
    assert "Python's packages are not in the image" in inferred(files, images=True, written="node x").said[0]
    assert [part.language for part in inferred({}, images=True, written="./run").stages] == ["python"]
    found = inferred(files, images=True, written="gunicorn x")
    assert [found.image_of([each]) for each in ("npm test", "pytest", "make")] == [
        "node:20-slim",
        "python:3.13-slim",
        "python:3.13-slim",
    ]


@pytest.mark.parametrize(
    ("lock", "pyproject", "paths", "itself"),
    [
        ("uv.lock", "[build-system]\n[project]\nname='x'\n", [], True),
        ("uv.lock", "[project]\nname='x'\n", ["src/x/main.py"], False),
        ("poetry.lock", "[build-system]\n", ["src/x/main.py"], True),
        ("poetry.lock", "[build-system]\n", ["x/main.py"], False),
    ],
)
def test_a_locked_package_is_installed_itself(lock: str, pyproject: str, paths: list[str], itself: bool) -> None:
    files: dict[str, object] = {lock: "", "pyproject.toml": pyproject, **dict.fromkeys(paths, "")}
    assert (commands(inferred(files, written="x"))[-1] == "pip install --no-deps .") == itself
