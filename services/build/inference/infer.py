"""Infers from a commit's files how it is built and run."""

import json
from collections.abc import Mapping

from services.build.inference import node, other_languages, procfile, python, static
from services.build.inference.inference import APP, Guess, Inference, Language, LanguagePart, language_of
from services.build.inference.node import NodeApp
from services.build.inference.python_packages import is_python
from services.build.inference.tree import DOCKERFILE, Tree
from services.build.inference.versions import mismatch
from shared.manifest import Stage, Step

REMEDY = "add a slipway.yml with `run: {command: …}`, or a Procfile with a `web:` line"


def infer(tree: Tree, *, images: bool, present: Mapping[str, str], written: str | None = None) -> Inference:
    """Returns how the app of a commit is built and run, as the files of `tree` say. `images` is True if artifacts are
    images. `present` holds language → version of `python` and `node` on the machine (empty if each step has an image).
    `written` is the command in the manifest, if it gives one. Raises NotInferred if a file cannot be understood.
    """
    web = Guess(written, "slipway.yml") if written else procfile.web_command(tree)
    app = node.node_app(tree) if node.is_node(tree) else None
    said = [*procfile.not_run(tree), *(app.said if app else ())]
    if images and DOCKERFILE in tree:
        return _by_dockerfile(tree, app, web, said)
    if DOCKERFILE in tree:
        said.append(f"{DOCKERFILE} is ignored: apps are processes here (SLIPWAY_DRIVER=docker makes them containers)")
    command, problem, final = web, "", None
    if command is None:
        command, problem, final = _command(tree, app)
    if command is None:
        return Inference(None, said=tuple(said), problem=_problem(tree, problem, images=images))
    language = final.language if final else language_of(command.value)
    language = language or ("python" if is_python(tree) or app is None else "node")
    parts, stages = _parts(tree, app, final, language)
    if images and language == "node" and is_python(tree):
        said.append("Python's packages are not in the image, which is of Node; bring a Dockerfile for both")
    said += _version_faults(tree, parts, present)
    return Inference(
        command=command,
        steps=tuple(step for part in parts for step in part.steps),
        stages=stages,
        origins=tuple(part.origin for part in parts if part.origin),
        said=tuple(said),
        images=_images(tree, stages[-1].language),
    )


def _command(tree: Tree, app: NodeApp | None) -> tuple[Guess | None, str, LanguagePart | None]:
    """Returns the command that runs the app, the reason if there is none, and, for an app that only has files to serve,
    the part (language and commands) that publishes them. Each of the three may be None or empty.
    """
    if app is not None and app.command is not None and "manage.py" not in tree:
        return app.command, "", None
    found, problem = python.command(tree)
    if found is not None:
        return found, "", None
    if app is not None and app.command is not None:
        return app.command, "", None
    if not problem and (folder := _folder(tree, app)):
        part, command = static.site(folder)
        return command, "", part
    return None, problem, None


def _folder(tree: Tree, app: NodeApp | None) -> Guess | None:
    if app is not None and app.output is not None:
        return app.output
    if "index.html" in tree and not is_python(tree) and not (app is not None and app.has_build):
        return Guess(".", "index.html")
    return None


def _problem(tree: Tree, problem: str, *, images: bool) -> str:
    folders = _folders(tree)
    if problem and not problem.startswith(tuple(f"{folder}/" for folder in folders)):
        return problem
    if DOCKERFILE in tree:
        return f"a {DOCKERFILE} is used only where apps are containers (SLIPWAY_DRIVER=docker); here {REMEDY}"
    if node.is_node(tree):
        return f"{node.PACKAGE} has neither a script start nor a main, and nothing tells what a build writes; {REMEDY}"
    if found := other_languages.problem(tree, images=images):
        return found
    if folders:
        which = (
            f"{', '.join(folders)} look like apps of their own" if folders[1:] else f"{folders[0]} looks like an app"
        )
        return f"{which}; PUT /apps/{APP} {json.dumps({'root': folders[0]})} makes that folder the app, or {REMEDY}"
    known = [path for path in tree.read_paths() if "/" not in path]
    found = f"{', '.join(known)} does not tell how to run it" if known else "nothing tells what this app is"
    return f"{found}; {REMEDY}"


def _folders(tree: Tree) -> list[str]:
    """Returns up to five folders that look like the folder of an app, if the root of the repository does not; else an
    empty list.
    """
    if is_python(tree) or node.is_node(tree):
        return []
    names = {DOCKERFILE, procfile.NAME, node.PACKAGE, "requirements.txt", "pyproject.toml", "manage.py", "index.html"}
    paths = sorted(tree.paths, key=lambda path: (path.count("/"), path))
    found = [path.rpartition("/")[0] for path in paths if 0 < path.count("/") <= 2 and path.rpartition("/")[2] in names]
    outer = [each for each in found if not any(each.startswith(f"{other}/") for other in found)]
    return list(dict.fromkeys(outer))[:5]


def _parts(
    tree: Tree, app: NodeApp | None, final: LanguagePart | None, language: Language
) -> tuple[list[LanguagePart], tuple[LanguagePart, ...]]:
    """Returns two groups of parts, each of which describes how the code of one language is built: the parts whose steps
    run in a build, and those that an image is built from. `final` is the part that publishes files, if the app has
    nothing else to run.
    """
    if final is not None:  # static files are served
        with_build = [app.part] if app is not None and app.has_build else []
        return [*([app.part] if app is not None else []), final], (*with_build, final)
    own = python.part(tree)
    if app is None:
        return [own], (own,)
    if language == "node":
        return [app.part, *([own] if is_python(tree) else [])], (app.part,)
    return [app.part, own], (*([app.part] if app.has_build else []), own)


def _by_dockerfile(tree: Tree, app: NodeApp | None, web: Guess | None, said: list[str]) -> Inference:
    """Returns the inference of a commit whose Dockerfile builds the app. Of the inferred steps only those for tests are
    left, with the steps that these need; without tests there are none. `web` is the start command, and `said` are lines
    for the build's log.
    """
    steps: tuple[Step, ...] = app.part.steps if app is not None else ()
    if not any(step.stage is Stage.TEST for step in steps):
        steps = ()
    origins = (app.part.origin,) if app is not None and steps else ()
    language: Language = "python" if is_python(tree) or app is None else "node"
    return Inference(web, steps, (), origins, tuple(said), "", _images(tree, language))


def _images(tree: Tree, last: Language) -> tuple[tuple[Language, str], ...]:
    both: dict[Language, str] = {"python": python.image(tree), "node": node.image(tree)}
    return tuple((each, both[each]) for each in sorted(both, key=lambda each: each == last))


def _version_faults(tree: Tree, parts: list[LanguagePart], present: Mapping[str, str]) -> list[str]:
    wanted = {"python": python.wanted(tree), "node": node.wanted(tree)}
    languages = dict.fromkeys(part.language for part in parts if part.steps)
    return [
        fault
        for language in languages
        if language in present and (fault := mismatch(language.title(), present[language], wanted[language]))
    ]
