"""Writes the pages of the docs that are made from code: `python -m docs.generate`, or `make docs`.

`tests/unit/test_docs.py` fails where a committed page is not what this script writes.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import Metric
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.build.config import Settings as BuildSettings
from services.build.main import build_app as build
from services.deployer.config import Settings as DeployerSettings
from services.deployer.main import build_app as deployer
from services.flags.config import Settings as FlagsSettings
from services.flags.main import build_app as flags
from services.monitor.alerts.alert import AlertState
from services.monitor.config import Settings as MonitorSettings
from services.monitor.main import build_app as monitor
from services.proxy.config import Settings as ProxySettings
from services.proxy.main import build_app as proxy
from shared.config import SharedSettings
from shared.manifest import Manifest
from shared.models import BuildState, Event, InstanceState, ReleaseState
from shared.proxy_models import RolloutState

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py. Change the code that it reads, then run `make docs`. -->\n"
METRIC = ("name", "type", "labels", "meaning")
METHODS = ("get", "put", "post", "patch", "delete")
SETTINGS: dict[str, type[SharedSettings]] = {
    "build": BuildSettings,
    "deployer": DeployerSettings,
    "monitor": MonitorSettings,
    "flags": FlagsSettings,
    "proxy": ProxySettings,
}


def main() -> None:
    for path, text in pages().items():
        (DOCS / path).write_text(text)


def pages() -> dict[str, str]:
    """Returns path below `docs/` → text, for each generated page."""
    return {
        "reference/manifest.md": _manifest(),
        "reference/settings.md": _settings(),
        "reference/rest.md": _rest(),
        "reference/metrics.md": _metrics(),
        "reference/events.md": _events(),
        "decisions/index.md": _decisions(),
    }


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines] + [""]


def _page(title: str, introduction: str, lines: Sequence[str]) -> str:
    return "\n".join([NOTE + f"# {title}", "", introduction, "", *lines]).rstrip() + "\n"


def _manifest() -> str:
    schema = Manifest.model_json_schema()
    lines = ["## Top level", "", *_properties(schema)]
    for name, part in sorted(schema["$defs"].items()):
        if "properties" in part:
            lines += [f"## {name}", ""]
            if description := part.get("description"):
                lines += [" ".join(description.split()), ""]
            lines += _properties(part)
    introduction = (
        "The file `slipway.yml` at the root of an app's repository is the app's manifest. This page lists every key. "
        "A key that is not listed here fails the build. The build service serves the same schema at "
        "`/static/slipway.schema.json` for editors; the guide [Steps](../guides/steps.md) shows how to use it."
    )
    return _page("Manifest", introduction, lines)


def _properties(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])

    def rows() -> Iterator[Sequence[str]]:
        for name, field in schema["properties"].items():
            yield f"`{name}`", _type(field), _json_default(field, name in required), _plain(field)

    return _table(("key", "type", "default", "meaning"), rows())


def _plain(field: dict[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).split()).replace("<", "&lt;")


def _json_default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = field.get("default")
    return f"`{default}`" if isinstance(default, str | int | float) and default != "" else ""


def _type(field: dict[str, Any]) -> str:
    """Returns a short name of a JSON schema's type, as a link if the page has a section about that type."""
    if reference := field.get("$ref"):
        name = reference.rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if name != "Stage" else "`build`, `test` or `analysis`"
    if choices := field.get("enum"):
        return " or ".join(f"`{choice}`" for choice in choices)
    if parts := field.get("anyOf"):
        return " or ".join(_type(part) for part in parts if part.get("type") != "null")
    kind = field.get("type")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if kind == "object":
        return "map of strings"
    return f"{kind}{_bounds(field)}"


def _bounds(field: dict[str, Any]) -> str:
    least, most = field.get("minimum"), field.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _settings() -> str:
    lines = ["## Every service", "", *_fields(SharedSettings, set())]
    own = set(SharedSettings.model_fields)
    for service, settings in SETTINGS.items():
        if set(settings.model_fields) - own:
            lines += [f"## {service}", "", *_fields(settings, own)]
    without = [service for service, settings in SETTINGS.items() if not set(settings.model_fields) - own]
    introduction = (
        "Every setting is an environment variable. The first table holds for all five services, and each of the "
        f"others for the service in its heading. The services {_listed(without)} have no settings of their own."
    )
    return _page("Settings", introduction, lines)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _fields(settings: type[SharedSettings], without: set[str]) -> list[str]:
    prefix = settings.model_config.get("env_prefix", "")

    def rows() -> Iterator[Sequence[str]]:
        for name, field in settings.model_fields.items():
            if name not in without:
                yield f"`{prefix}{name.upper()}`", _default(field), field.description or ""

    return _table(("variable", "default", "meaning"), rows())


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default in (None, "") or isinstance(default, SecretStr):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _apps() -> dict[str, FastAPI]:
    """Builds every service's app as its `main.py` does, but starts none."""
    with tempfile.TemporaryDirectory() as home:
        made: dict[str, Any] = {"home": Path(home), "token": SecretStr("of-no-stack"), "driver": "process"}
        return {
            "build": build(BuildSettings(**made)),
            "deployer": deployer(DeployerSettings(**made)),
            "monitor": monitor(MonitorSettings(**made)),
            "flags": flags(FlagsSettings(**made)),
            "proxy": proxy(ProxySettings(**made)),
        }


def _rest() -> str:
    lines: list[str] = []
    for service, app in _apps().items():
        lines += [f"## {service}", "", *_table(("call", "summary"), _calls(app.openapi()))]
    introduction = (
        "This page lists the calls in the OpenAPI documents of the five services. It leaves out git's own calls. Each "
        "service shows its document, with parameters and answers, at `/docs`. [The contract]"
        "(../architecture/contract.md#rest) fixes the conventions: errors, paging, times and authentication."
    )
    return _page("REST", introduction, lines)


def _metrics() -> str:
    families = {service: asyncio.run(_collected(app)) for service, app in _apps().items()}
    everywhere = families["flags"]
    lines = ["## Every service", "", *_table(METRIC, map(_metric, everywhere.values()))]
    for service, own in families.items():
        if further := [family for name, family in own.items() if name not in everywhere]:
            lines += [f"## {service}", "", *_table(METRIC, map(_metric, further))]
    introduction = (
        "Every service answers `GET /metrics` in Prometheus' text format. The call needs the platform's token, as a "
        "bearer token or as the password of HTTP Basic. Metrics of instances have the names that cAdvisor gives them."
    )
    return _page("Metrics", introduction, lines)


async def _collected(app: FastAPI) -> dict[str, Metric]:
    """Returns name → metric of the app, after one request: metrics about requests have no labels before the first."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        (await client.get("/health")).raise_for_status()
    return {family.name: family for family in app.state.metrics.collect()}


def _metric(family: Metric) -> Sequence[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = family.samples[-1].labels if family.samples else vars(family)["_labelnames"]
    return f"`{name}`", family.type, " ".join(f"`{label}`" for label in labels), family.documentation


def _calls(document: dict[str, Any]) -> Iterator[Sequence[str]]:
    for path, calls in document["paths"].items():
        for method in METHODS:
            if method in calls:
                summary = calls[method].get("summary", "")
                yield f"`{method.upper()} {path}`", " ".join(summary.split()).replace("<", "&lt;")


def _events() -> str:
    states = {"build": BuildState, "release": ReleaseState, "instance": InstanceState, "rollout": RolloutState}
    kinds = {**states, "alert": AlertState}
    rows = [(f"`{kind}.*`", " ".join(f"`{kind}.{state}`" for state in kinds[kind])) for kind in kinds]
    others = [
        ("`analysis.*`", "`analysis.inconclusive` `analysis.error`"),
        ("`scaling.*`", "`scaling.decided`"),
        ("`flag.*`", "`flag.changed`"),
    ]
    fields = Event.model_json_schema()["properties"]
    lines = _table(("kind", "types"), iter([*rows, *others]))
    lines += [
        "## Fields of every event",
        "",
        *_table(("field", "meaning"), ((f"`{n}`", _plain(fields[n])) for n in fields)),
    ]
    introduction = (
        "The services append events to the Redis stream `events`. The type of an event ends in the state that was "
        "reached. [The contract](../architecture/contract.md#events) lists the further fields of each type."
    )
    return _page("Events", introduction, lines)


def _decisions() -> str:
    files = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md")
    lines = []
    for path in files:
        number, _, title = path.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        lines.append(f"{number}. [{title}]({path.name})")
    introduction = (
        "A decision records the reasons for one larger choice: its context, what was decided, and the consequences."
    )
    return _page("Decisions", introduction, lines)


if __name__ == "__main__":
    main()
