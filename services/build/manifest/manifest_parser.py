"""Parses `slipway.yml` into a Manifest, or reports all its faults with lines and remedies. Pure."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from services.build.builds.app import DEFAULT_BRANCHES
from services.build.git.remote_source import SOURCE_EXAMPLE
from services.build.manifest import step_graph
from services.build.manifest.manifest_faults import Fault
from services.build.system.api_call import api_call
from shared.canary import Canary, CanaryStep
from shared.manifest import Manifest, Service, Step

NAME = "slipway.yml"
LARGEST_BYTES = 64 * 1024
DEEPEST = 20
SHOWN = 160
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
BINARY = "tag:yaml.org,2002:binary"
# Control characters except tab and line feed, and lone surrogates. Variables, commands and Redis cannot hold NUL or a
# lone surrogate; terminals and logs would interpret the others.
_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Keys of the app's settings that people try in the manifest, each with an example of a request body that sets it.
APP_KEYS = {
    "branches": {"branches": DEFAULT_BRANCHES},
    "environments": {"branches": DEFAULT_BRANCHES},
    "root": {"root": "services/web"},
    "source": {"source": SOURCE_EXAMPLE},
    "baseline": {"baseline": True},
}


class BadManifest(ValueError):
    """Reports the faults that were found in a manifest."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = list(faults)


def parse_manifest(data: bytes, app: str) -> Manifest:
    """Returns the manifest in `data`, the content of `slipway.yml`. Raises BadManifest, also if the manifest names
    another app than `app`, the name in the push URL.
    """
    root = _compose(data)
    try:
        manifest = Manifest.model_validate(yaml.safe_load(data))
    except ValidationError as error:
        raise BadManifest(
            [
                Fault(_field(fault["loc"]), _detail(fault, app), _line(root, fault["loc"]))
                for fault in error.errors(include_url=False)
            ]
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadManifest([Fault(NAME, f"cannot be read: {error}")]) from error
    if "command_from" in manifest.run.model_fields_set:
        detail = "is not a key of the manifest; remove it"
        raise BadManifest([Fault("run.command_from", detail, _line(root, ("run", "command_from")))])
    if manifest.app != app:
        detail = f"is {manifest.app!r}, but this was pushed to {app!r}; make them the same"
        raise BadManifest([Fault("app", detail, _line(root, ("app",)))])
    if faults := step_graph.faults(manifest.steps):
        raise with_lines(data, faults)
    return manifest


def with_lines(data: bytes, faults: Sequence[Fault]) -> BadManifest:
    """Returns a BadManifest with these faults, each with the line of its field in `data`, the manifest's text."""
    root = _compose(data)
    return BadManifest([Fault(f.field, f.detail, _line(root, tuple(f.field.split(".")))) for f in faults])


def _compose(data: bytes) -> yaml.Node:
    if len(data) > LARGEST_BYTES:
        raise BadManifest([Fault(NAME, f"is larger than {LARGEST_BYTES // 1024} KiB")])
    try:
        _refuse_bombs(data)
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, BadManifest):
            raise
        glob = "; a glob that begins with * stands in quotes" if "scanning an alias" in str(error) else ""
        raise BadManifest([Fault(NAME, f"is not YAML: {error}{glob}")]) from error
    if not isinstance(root, yaml.MappingNode):
        raise BadManifest([Fault(NAME, "must be a mapping that begins with `app: <name>`")])
    _refuse_doubles(root, "")
    if faults := list(_unusable(root, ())):
        raise BadManifest(faults)
    return root


def _refuse_bombs(data: bytes) -> None:
    """Raises BadManifest for YAML aliases, which can expand to gigabytes, and for deep nesting, which takes quadratic
    time.
    """
    depth = 0
    for token in yaml.scan(data, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken):
            raise BadManifest([Fault(NAME, "YAML aliases (*name) are not read; write it out", line)])
        if isinstance(token, _OPENING):
            depth += 1
        elif isinstance(token, _CLOSING):
            depth -= 1
        if depth > DEEPEST:
            raise BadManifest([Fault(NAME, f"is nested deeper than {DEEPEST} levels", line)])


def _refuse_doubles(node: yaml.Node, path: str) -> None:
    """Raises BadManifest for a duplicate key, of which YAML would silently use the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            field = f"{path}{key.value}"
            if str(key.value) in seen:
                raise BadManifest([Fault(shown(field), "is there twice; keep one", key.start_mark.line + 1)])
            seen.add(str(key.value))
            _refuse_doubles(value, f"{field}.")
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _refuse_doubles(value, f"{path}{position}.")


def _unusable(node: yaml.Node, path: tuple[str, ...]) -> Iterator[Fault]:
    """Yields a fault for each text with a character that cannot be stored; YAML escapes and base64 can produce such
    characters.
    """
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _unusable(key, path)
            yield from _unusable(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _unusable(value, (*path, str(position)))
    elif isinstance(node, yaml.ScalarNode):
        field, line = shown(".".join(path)) or NAME, node.start_mark.line + 1
        if node.tag == BINARY:
            yield Fault(field, "is binary; write it as text", line)
        elif found := _UNUSABLE.search(node.value):
            sign = f"U+{ord(found[0]):04X}"
            yield Fault(field, f"holds the character {sign}, which no name, path or command can; leave it out", line)


def shown(text: str) -> str:
    """Returns the text on one line, for a log: control characters and lone surrogates become spaces, and it is cut to
    160 characters.
    """
    text = "".join(each if each.isprintable() else " " for each in text)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or NAME


def _detail(fault: Any, app: str) -> str:
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"]).removeprefix("Value error, ")
    if key in APP_KEYS:
        call = api_call("PUT", f"/apps/{app}", APP_KEYS[key])
        return f"cannot be set in the manifest: it is set on the app, by a call such as {call}"
    near = difflib.get_close_matches(key, _keys(fault["loc"]), n=1)
    return "is not a key of the manifest" + (f"; did you mean {near[0]}?" if near else "; remove it")


def _keys(location: tuple[int | str, ...]) -> Iterable[str]:
    """Returns the keys that the manifest may have at this location, as suggestions for a mistyped one."""
    if location[0] == "canary":
        fields = {2: Canary.model_fields, 4: CanaryStep.model_fields}.get(len(location), {})
        return [field.alias or name for name, field in fields.items()]
    models = {
        1: Manifest,
        3: Step if location[0] == "steps" else None,
        5: Service if location[2:3] == ("services",) else None,
    }
    found = models.get(len(location))
    return found.model_fields if found is not None else ()


def _line(root: yaml.Node, location: tuple[int | str, ...]) -> int:
    """Returns the line of the field at `location`; if the text does not have it, the line of its innermost parent; 1 if
    there is none.
    """
    node, line = root, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and str(part).isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return line
