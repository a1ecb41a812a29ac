"""Infers from package.json how a Node app is built and run. For an app without a server, infers the folder into which
its build writes files for browsers.
"""

import fnmatch
import re
import shlex
from dataclasses import dataclass
from typing import Any

from services.build.inference.inference import Guess, LanguagePart, build_step
from services.build.inference.node_manager import Manager, manager_of
from services.build.inference.tree import Tree, table, texts
from services.build.inference.versions import Wanted, chosen, pinned, ranged
from shared.manifest import Stage

PACKAGE = "package.json"
DEFAULT, OTHERS = "20", ("24", "22", "18", "16", "14")
_INSTALL_SCRIPTS = {"preinstall", "install", "postinstall", "prepare"}
# A `start` script that calls one of these starts a development server; the built files are served instead.
_DEVELOPMENT = re.compile(
    r"\b(react-scripts start|craco start|ng serve|vue-cli-service serve|webpack(-dev-server| serve)|parcel( serve)?\b"
    r"|astro dev|gatsby develop|vite( dev| serve)?(?=\s*($|&|;| -))|docusaurus start|eleventy --serve|snowpack dev)"
)
# Package → folder into which its build writes.
_OUTPUTS = {
    "vite": "dist",
    "react-scripts": "build",
    "@craco/craco": "build",
    "@vue/cli-service": "dist",
    "astro": "dist",
    "gatsby": "public",
    "parcel": "dist",
    "@11ty/eleventy": "_site",
    "@docusaurus/core": "build",
    "@sveltejs/adapter-static": "build",
    "webpack": "dist",
}
_VITE_OUTPUT = re.compile(r"\boutDir\s*:\s*['\"]([\w][\w./-]*)['\"]")


@dataclass(frozen=True)
class NodeApp:
    """Holds how a Node app is built and run, as its package.json says."""

    part: LanguagePart
    """Commands that install its packages, build and test it."""
    command: Guess | None
    """Command that starts its server; None if no file names one."""
    output: Guess | None
    """Folder into which the build writes files for browsers; None if the app has no such build."""
    has_build: bool
    """True if its package.json, or that of a workspace, has a script `build`."""
    said: tuple[str, ...]
    """Sentences for the build's log about lock files that are ignored."""


def is_node(tree: Tree) -> bool:
    return PACKAGE in tree


def wanted(tree: Tree) -> Wanted | None:
    """Returns the version of Node that the commit asks for; None if it names none. Raises NotInferred if package.json
    is not JSON.
    """
    engines = texts(tree.json(PACKAGE).get("engines")).get("node")
    if engines and (found := ranged(engines, f"engines of {PACKAGE}")):
        return found
    path = tree.first(".nvmrc", ".node-version")
    return pinned(tree.text(path), path, "node-", 1) if path else None


def image(tree: Tree) -> str:
    return f"node:{chosen(wanted(tree), DEFAULT, OTHERS, lambda series: f'{series}.99.0')}-slim"


def node_app(tree: Tree) -> NodeApp:
    """Returns how the app of `tree` is built and run. Raises NotInferred if package.json is not JSON."""
    package = tree.json(PACKAGE)
    scripts = texts(package.get("scripts"))
    manager, said = manager_of(tree, package)
    members = _members(tree, package)
    build = _build_command(scripts, manager, [texts(table(tree.json(each), "scripts")) for each in members])
    test = scripts.get("test", "")
    node, origin = image(tree), f"{PACKAGE} and {manager.shown}"
    steps = [build_step(manager.name, node, [manager.install])]
    steps += [build_step("build", node, [build])] if build else []
    if test and "no test specified" not in test:
        steps.append(build_step("test", node, ["npm test"], Stage.TEST))
    install = manager.install if build else manager.install_for_running
    alone = not (_INSTALL_SCRIPTS & scripts.keys() or members or {"workspaces", "pnpm"} & package.keys())
    alone = alone and not _has_local(package) and "pnpm-workspace.yaml" not in tree
    config = [path for path in (".npmrc", ".yarnrc") if path in tree]
    early = (PACKAGE, *manager.files, *config) if alone and (manager.files or manager.name == "npm") else ()
    after = [each for each in (build, manager.prune) if each] if build else []
    part = LanguagePart("node", node, origin, tuple(steps), (install,), early, tuple(after))
    output = _output(tree, package) if build else None
    return NodeApp(part, _command(tree, package, scripts, members, output), output, bool(build), tuple(said))


def _build_command(scripts: dict[str, str], manager: Manager, members: list[dict[str, str]]) -> str:
    if "build" in scripts:
        return f"{manager.run} build"
    if manager.run_in_workspaces and any("build" in each for each in members):
        return f"{manager.run_in_workspaces} build"
    return ""


def _command(
    tree: Tree, package: dict[str, Any], scripts: dict[str, str], members: list[str], output: Guess | None
) -> Guess | None:
    start = scripts.get("start", "")
    if start and not (output and _DEVELOPMENT.search(start)):
        return Guess("npm start", f"the script start of {PACKAGE}: {start}")
    starting = [each for each in members if texts(table(tree.json(each), "scripts")).get("start")]
    if len(starting) == 1:
        folder = starting[0].removesuffix(f"/{PACKAGE}")
        return Guess(f"npm --prefix {folder} start", f"the script start of {starting[0]}")
    main = package.get("main")
    if isinstance(main, str) and (main := main.removeprefix("./")) in tree and "files" not in package and not output:
        return Guess(f"node {shlex.quote(main)}", f"main of {PACKAGE}")
    return Guess("node server.js", "server.js") if "server.js" in tree else None


def _output(tree: Tree, package: dict[str, Any]) -> Guess | None:
    names = texts(package.get("dependencies")).keys() | texts(package.get("devDependencies")).keys()
    if "@angular/cli" in names and (folder := _angular(tree)):
        return Guess(folder, "angular.json: what Angular builds")
    for tool, folder in _OUTPUTS.items():
        if tool in names:
            config = tree.first("vite.config.ts", "vite.config.js", "vite.config.mjs") if tool == "vite" else None
            if config and (named := _VITE_OUTPUT.search(tree.text(config))):
                return Guess(named[1].strip("/"), f"{config}: what vite builds")
            return Guess(folder, f"{PACKAGE}: what {tool} builds")
    return None


def _angular(tree: Tree) -> str | None:
    for name, project in table(tree.json("angular.json"), "projects").items():
        options = table(project, "architect", "build", "options")
        path = options.get("outputPath", f"dist/{name}")
        path = path.get("base") if isinstance(path, dict) else path
        if isinstance(path, str) and re.fullmatch(r"[\w][\w./-]*", path) and ".." not in path:
            return f"{path}/browser"
    return None


def _members(tree: Tree, package: dict[str, Any]) -> list[str]:
    """Returns the path of the package.json of each workspace."""
    workspaces = package.get("workspaces")
    globs = table(package, "workspaces").get("packages") if isinstance(workspaces, dict) else workspaces
    globs = [each for each in globs if isinstance(each, str)] if isinstance(globs, list) else []
    globs += re.findall(r"^\s*-\s*['\"]?([\w@./*-]+)['\"]?\s*$", tree.text("pnpm-workspace.yaml"), re.MULTILINE)
    patterns = [f"{each.removeprefix('./').rstrip('/')}/{PACKAGE}" for each in globs]
    paths = [path for path in tree.read_paths() if path.endswith(f"/{PACKAGE}")]
    matching = [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
    return [path for path in matching if re.fullmatch(r"[\w@./-]+", path)]


def _has_local(package: dict[str, Any]) -> bool:
    """Returns True if a dependency in package.json points to a folder or an archive in the commit."""
    kinds = ("dependencies", "devDependencies", "optionalDependencies")
    return any(
        each.startswith(("file:", "link:", ".", "/")) for kind in kinds for each in texts(package.get(kind)).values()
    )
