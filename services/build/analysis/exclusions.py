"""Decides which files of a commit are vendored or generated: the measures of functions leave these out. Pure. The path
of a file decides, never its content: with a comment in a file, a commit could excuse itself. For the same reason,
patterns that a commit declares (in `.gitattributes`, and under `exclude:` in the manifest) do not apply to that commit,
but to later ones, once a build of the declaring commit has passed.
"""

import re
from collections.abc import Sequence

from services.build.system.path_glob import PathGlob
from shared.manifest import MOST_EXCLUDED

ATTRIBUTES = ".gitattributes"
_MARKS = ("linguist-vendored", "linguist-generated")
# Paths that linguist treats as vendored or generated, of the kinds of files that lizard reads.
_FOLDERS = (
    r"node_modules|bower_components|vendors?|(?:3rd|[Tt]hird)[-_]?[Pp]arty|Godeps|Pods|Carthage|site-packages|"
    r"\.yarn/(?:releases|plugins|sdks|versions)|__generated__"
)
_LIBRARIES = (
    r"angular|backbone|bootstrap|d3|handlebars|jquery(?:[-.]ui|-migrate)?|knockout|lodash|modernizr|"
    r"react(?:-dom|-bootstrap|-router(?:-dom)?)?|socket\.io|swagger-ui|underscore|vue(?:-router)?"
)
_WORDS = r"alpine|babel|chart|ember|htmx|moment|mootools|mustache|popper|preact|prototype|redoc|require|three|vuex"
_FLAVOUR = r"(?:[.-](?:min|slim|bundle|standalone|development|production|prod|global|esm|umd|cjs|common|browser))"
_VERSION = r"[.-]v?\d+(?:\.\d+)*"
_FILES = (
    r"[^/]+[.-]min\.(?:js|mjs|cjs)|"
    rf"(?:{_LIBRARIES}){_FLAVOUR}*(?:{_VERSION})?{_FLAVOUR}*\.(?:js|mjs|cjs)|"
    rf"(?:{_WORDS})(?:{_FLAVOUR}*{_VERSION}{_FLAVOUR}*|{_FLAVOUR}+)\.(?:js|mjs|cjs)|"
    r"[^/]+_pb2(?:_grpc)?\.py|[^/]+\.pb(?:\.gw)?\.go|[^/]+_pb\.(?:js|ts|d\.ts)|[^/]+\.pb\.(?:cc|h|swift)|"
    r"[^/]+\.(?:g|freezed)\.dart|[^/]+\.(?:g|designer|Designer)\.cs|zz_generated[^/]*\.go|\.pnp\.c?js|mock_[^/]+_gen\.go"
)
_CONVENTION = re.compile(rf"(?P<folder>(?:^|.*?/)(?:{_FOLDERS})/)|(?:^|.*/)(?:{_FILES})$")
BY_CONVENTION, BY_THE_APP = "by convention", "set on the app"


def declared(attributes: bytes, excluded: Sequence[str]) -> list[str]:
    """Returns the patterns by which a commit declares files as vendored or generated: first those of `attributes`, the
    content of its `.gitattributes`, then those of `excluded`, the list in its manifest. A pattern that begins with `!`
    says that the files which match it are neither.
    """
    found = []
    for line in attributes.decode(errors="replace").splitlines():
        pattern, *attributes_of_line = line.split() or [""]
        if pattern.startswith(("#", '"', "!", "[attr]")) or pattern.endswith("/"):  # git matches no file by these
            continue
        for mark in _MARKS:
            if mark in attributes_of_line or f"{mark}=true" in attributes_of_line:
                found.append(pattern)
            elif f"-{mark}" in attributes_of_line or f"{mark}=false" in attributes_of_line:
                found.append(f"!{pattern}")
    return [*found[:MOST_EXCLUDED], *excluded]


class Exclusions:
    """Decides which files are left out when the complexity and length of functions are measured. `app` holds the
    patterns that are set on the app; `passed` holds those that the commit of `passed_by` declares, the branch's last
    build that passed. If several patterns match a file, the last one decides; those of the app come last. If none
    matches, the usual names of vendored and generated files decide.
    """

    def __init__(self, app: Sequence[str] = (), passed: Sequence[str] = (), passed_by: str = "") -> None:
        listed = [*((pattern, f"declared in {passed_by}") for pattern in passed), *((each, BY_THE_APP) for each in app)]
        self._listed = [(_glob(pattern.removeprefix("!")), pattern, by) for pattern, by in reversed(listed)]

    def reason(self, path: str) -> tuple[str, str] | None:
        """Returns (the folder, file or pattern that excludes the file `path`, who set it); None if the file counts."""
        parts = path.split("/")
        for glob, pattern, by in self._listed:
            if glob.matches(parts):
                return None if pattern.startswith("!") else (pattern, by)
        match = _CONVENTION.match(path)
        return (match["folder"] or path, BY_CONVENTION) if match else None


def _glob(pattern: str) -> PathGlob:
    """Returns a pattern of .gitignore as a glob. A pattern without a slash before its last character matches at any
    depth; one that ends with a slash matches all files below that folder.
    """
    whole = f"{pattern}**" if pattern.endswith("/") else pattern
    return PathGlob(whole if "/" in pattern.rstrip("/") else f"**/{whole}")
