"""Chooses the package manager of a Node app (npm, pnpm or yarn) and the commands that it is called with."""

import re
from dataclasses import dataclass
from typing import Any

from services.build.inference.tree import Tree

# Format of a lock file that names no version of its manager → that version.
_PNPM = {"5.": "7", "6.": "8", "9.": "9"}
_LOCKS = ("pnpm-lock.yaml", "yarn.lock", "package-lock.json", "npm-shrinkwrap.json")
_MANAGER = re.compile(r"(npm|pnpm|yarn)@(\d+(?:\.\d+)*)")
_LOCKFILE_VERSION = re.compile(r"^lockfileVersion:\s*['\"]?([\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Manager:
    """Holds the commands of a package manager. A manager other than npm is fetched by `npx`, in the version that the
    app asks for.
    """

    name: str
    shown: str
    """Manager with its version and the file that chose it, for messages: `pnpm-lock.yaml: pnpm 9`."""
    install: str
    """Command that installs all packages."""
    install_for_running: str
    """Command that installs the packages that the running app needs, without those for development."""
    prune: str
    """Command that removes packages for development; empty if the manager has no such command."""
    run: str
    """Command that runs a script of package.json, up to the script's name, such as `npm run`."""
    run_in_workspaces: str
    """Command that runs a script in each workspace that has it, up to the script's name; empty if there is no such
    command.
    """
    files: tuple[str, ...]
    """Files that an installation needs besides package.json."""


def manager_of(tree: Tree, package: dict[str, Any]) -> tuple[Manager, list[str]]:
    """Returns the package manager of the app, and a sentence for each lock file that is ignored. The field
    `packageManager` of package.json decides, else the lock file, else it is npm.
    """
    locks = [
        path for path in ("pnpm-lock.yaml", "yarn.lock", "package-lock.json", "npm-shrinkwrap.json") if path in tree
    ]
    named = _MANAGER.match(str(package.get("packageManager", "")))
    by_name = {"pnpm": locks_of(locks, "pnpm"), "yarn": locks_of(locks, "yarn"), "npm": locks_of(locks, "pack", "npm-")}
    name = named[1] if named else next((each for each, found in by_name.items() if found), "npm")
    lock = by_name[name]
    ignored = [f"{path} is ignored: {name} installs" for path in locks if path not in by_name[name][:1]]
    ignored += [f"{path} is ignored: Bun is not run" for path in ("bun.lock", "bun.lockb") if path in tree]
    version = named[2] if named else ""
    if name == "pnpm":
        return _pnpm(tree, lock, version), ignored
    if name == "yarn":
        return _yarn(tree, lock, version), ignored
    return _npm(lock), ignored


def locks_of(locks: list[str], *prefixes: str) -> list[str]:
    return [path for path in locks if path.startswith(prefixes)]


def _npm(lock: list[str]) -> Manager:
    install = "npm ci" if lock else "npm install"
    shown = f"{lock[0]}: npm" if lock else "no lock file: npm"
    run, inside = "npm run", "npm run --workspaces --if-present"
    return Manager("npm", shown, install, f"{install} --omit=dev", "npm prune --omit=dev", run, inside, tuple(lock[:1]))


def _pnpm(tree: Tree, lock: list[str], version: str) -> Manager:
    written = _LOCKFILE_VERSION.search(tree.text("pnpm-lock.yaml")[:1000])
    version = version or next((to for of, to in _PNPM.items() if written and written[1].startswith(of)), "9")
    pnpm = f"npx --yes pnpm@{version}"
    install = f"{pnpm} install" + (" --frozen-lockfile" if lock else "")
    shown = f"{lock[0] if lock else 'packageManager'}: pnpm {version}"
    inside = f"{pnpm} --recursive --if-present run"
    return Manager(
        "pnpm", shown, install, f"{install} --prod", f"{pnpm} prune --prod", f"{pnpm} run", inside, tuple(lock[:1])
    )


def _yarn(tree: Tree, lock: list[str], version: str) -> Manager:
    text = tree.text("yarn.lock")
    shown = lock[0] if lock else "packageManager"
    if version.startswith("1") if version else "__metadata:" not in text:
        yarn = f"npx --yes yarn@{version or '1'}"
        install = f"{yarn} install" + (" --frozen-lockfile" if lock else "")
        running = f"{install} --production"
        return Manager("yarn", f"{shown}: Yarn 1", install, running, "", f"{yarn} run", "", tuple(lock[:1]))
    # Yarn's own format of installed packages, Plug'n'Play, needs Yarn at run time too.
    yarn = f"YARN_NODE_LINKER=node-modules npx --yes @yarnpkg/cli-dist@{version or '4'}"
    install = f"{yarn} install" + (" --immutable" if lock else "")
    return Manager("yarn", f"{shown}: Yarn {version or '4'}", install, install, "", f"{yarn} run", "", ())
