"""Parses SARIF 2.1.0, where parts of a result may stand elsewhere in its run and be referred to. Pure."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin

from services.build.reports.metric import Finding, Offender, brief
from services.build.reports.path_resolver import shown_path
from services.build.reports.report_text import MOST_DIGITS, Unreadable, decoded

SEVERITY = {"error": 0, "warning": 1, "note": 2, "none": 3}
GONE = "absent"  # state of a result that an earlier run had and this one does not have
BASES_DEEP = 10
_PLACEHOLDER = re.compile(r"\{(\d{1,3})\}")


def read_sarif(data: bytes, mask: Callable[[str], str] = str) -> tuple[Finding, ...]:
    """Returns the findings of a SARIF 2.1.0 report, without those that an accepted suppression hides or that only an
    earlier run had. Errors come first, then warnings, then notes. Files are named as in the report; `mask` masks
    secrets in messages. Raises Unreadable.
    """
    try:
        document: Any = json.loads(data if data[:2] in (b"{\0", b"\0{") else decoded(data))
        if not str(document["version"]).startswith("2.1") or not document["runs"]:
            raise Unreadable("is not SARIF 2.1 with at least one run")
        ranked = sorted((each for run in document["runs"] for each in _results(run, mask)), key=lambda each: each[0])
        return tuple(finding for _, finding in ranked)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"is not whole SARIF ({type(error).__name__})") from error


def _results(run: Any, mask: Callable[[str], str]) -> Iterator[tuple[int, Finding]]:
    if any(call.get("executionSuccessful") is False for call in run.get("invocations") or []):
        raise Unreadable("says that the tool did not run to its end")
    if (run.get("externalPropertyFileReferences") or {}).get("results"):
        raise Unreadable("keeps its results in other files; let the tool write them into one")
    tool = _Tool(run.get("tool") or {})
    name = _shown(tool.driver.get("name", ""))
    for result in run["results"]:
        if result.get("kind", "fail") != "fail" or result.get("baselineState") == GONE or _is_suppressed(result):
            continue
        rule = tool.rule(result)
        rule_id = _shown(result.get("ruleId") or (result.get("rule") or {}).get("id") or rule.get("id") or "")
        text = _message(result.get("message") or {}, rule, tool) or _text(rule.get("shortDescription") or {})
        physical = ((result.get("locations") or [{}])[0]).get("physicalLocation") or {}
        line = (physical.get("region") or {}).get("startLine")
        place = Offender(
            file=shown_path(_shown(_uri(physical.get("artifactLocation") or {}, run) or "?")),
            line=line if isinstance(line, int) and abs(line) < 10**MOST_DIGITS else None,
            message=brief(mask(f"{rule_id} {_shown(text)}")),
        )
        level = result.get("level") or (rule.get("defaultConfiguration") or {}).get("level") or "warning"
        yield SEVERITY.get(level, 1), Finding(f"{name} {rule_id}", place, is_nameless=not rule_id and not text)


def _is_suppressed(result: Mapping[str, Any]) -> bool:
    """Returns True if the result has a suppression that is accepted or has no state."""
    return any(each.get("status", "accepted") == "accepted" for each in result.get("suppressions") or [])


class _Tool:
    """Holds the tool of a run: its driver and extensions, and their rules."""

    def __init__(self, tool: Mapping[str, Any]) -> None:
        self.driver: Mapping[str, Any] = tool.get("driver") or {}
        self._extensions: list[Mapping[str, Any]] = tool.get("extensions") or []
        self._by_id: dict[int, dict[Any, Mapping[str, Any]]] = {}

    def rule(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the description of the result's rule; empty if the report does not describe it."""
        reference = result.get("rule") or {}
        component = self._component(reference.get("toolComponent") or {})
        rules = component.get("rules") or []
        index = reference.get("index", result.get("ruleIndex", -1))
        if isinstance(index, int) and 0 <= index < len(rules):
            return dict(rules[index])
        by_id = self._by_id.setdefault(id(component), {rule.get("id"): rule for rule in rules})
        rule_id = str(reference.get("id") or result.get("ruleId"))
        return by_id.get(rule_id) or by_id.get(rule_id.rpartition("/")[0]) or {}  # CA1000/1 is a part of CA1000

    def _component(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        index = reference.get("index", -1)
        if isinstance(index, int) and 0 <= index < len(self._extensions):
            return self._extensions[index]
        for each in self._extensions:
            if any(reference.get(key) and reference[key] == each.get(key) for key in ("guid", "name")):
                return each
        return self.driver


def _message(message: Mapping[str, Any], rule: Mapping[str, Any], tool: _Tool) -> str:
    """Returns the text of the message with its arguments filled in. A message without a text has an id, under which the
    rule or the tool defines the text.
    """
    text = _text(message)
    if not text and (key := message.get("id")):
        shared = tool.driver.get("globalMessageStrings") or {}
        text = _text((rule.get("messageStrings") or {}).get(key) or shared.get(key) or {})
    arguments = message.get("arguments") or []

    def filled(match: re.Match[str]) -> str:
        return str(arguments[int(match[1])]) if int(match[1]) < len(arguments) else match[0]

    return _PLACEHOLDER.sub(filled, text) if arguments else text


def _text(message: Mapping[str, Any]) -> str:
    return str(message.get("text") or message.get("markdown") or "")


def _uri(location: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Returns the URI of a file in a SARIF run. If it is relative to a base that the run defines, the base is put
    before it.
    """
    artifacts = run.get("artifacts") or []
    index = location.get("index", -1)
    if not location.get("uri") and isinstance(index, int) and 0 <= index < len(artifacts):
        location = artifacts[index].get("location") or {}
    uri, bases = str(location.get("uri") or ""), run.get("originalUriBaseIds") or {}
    for _ in range(BASES_DEEP):
        location = bases.get(location.get("uriBaseId")) or {}
        if not location:
            break
        base = str(location.get("uri") or "")
        uri = urljoin(base if base.endswith("/") or not base else f"{base}/", uri)
    return uri if uri.startswith("file:") else unquote(uri)


def _shown(value: Any) -> str:
    """Returns the value as text that can be encoded: lone surrogates, which JSON may contain, are replaced."""
    return str(value).encode(errors="replace").decode()
