"""Finds the platform's problems in the services' answers to `GET /ready`. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.monitor.rules.rule import Metric, Rule
from shared.config import SERVICES
from shared.web.readiness import Readiness

LOOP = "loop "
REDIS_ALERT = "redis:platform"
"""Id of the alert about Redis. While it fires, nothing can be stored."""
SERVICE_FIRES_AFTER_S = 30.0  # the start of a service takes so long on a busy machine
FIRES_AFTER_S = 15.0


@dataclass(frozen=True)
class PlatformProblem:
    """Describes a problem of the platform. `service` is the service that has it; empty if the problem is of something
    that services depend on, such as Redis. `rule` is the kind of problem, by which people see and silence its alert.
    """

    rule: str
    service: str
    reason: str

    @property
    def alert(self) -> str:
        """Returns the id of the alert about the problem."""
        return f"{self.rule}:{self.service or 'platform'}"


def durations(problem: PlatformProblem) -> Rule:
    """Returns a rule with the time for which the problem must last before its alert fires: 30 s for a problem of a
    service, else 15 s. Only the rule's name and this time are used.
    """
    for_s = SERVICE_FIRES_AFTER_S if problem.service else FIRES_AFTER_S
    return Rule(name=problem.rule, metric=Metric.HEALTH, threshold=1, for_s=for_s)


def problems_of(answers: Mapping[str, Readiness | str]) -> list[PlatformProblem]:
    """Returns the platform's problems. `answers` holds service → its answer to `GET /ready`, or a text why it gave
    none. What several services report, such as Redis, is one problem. A service is a problem if it gave no answer, or
    if others cannot reach it although it answers that it is ready. A service's failed loops are a problem only if it
    reports nothing else, because anything else explains them.
    """
    found = [PlatformProblem("service", name, why) for name, why in answers.items() if isinstance(why, str)]
    reported: dict[str, dict[str, str]] = {}  # dependency → service → text
    for name, answer in answers.items():
        if isinstance(answer, str):
            continue
        loops = [text for of, text in answer.problems.items() if of.startswith(LOOP)]
        others = {of: text for of, text in answer.problems.items() if not of.startswith(LOOP)}
        if loops and not others:
            found.append(PlatformProblem("loops", name, f"{name}: {'; '.join(loops)}"))
        for of, text in (answer.warnings | others).items():
            reported.setdefault(of, {})[name] = text
    for of, texts in reported.items():
        reason = _joined(texts)
        if of not in SERVICES:
            found.append(PlatformProblem(_slug(of), "", reason))
        elif isinstance(other := answers.get(of), Readiness) and other.ready:
            found.append(PlatformProblem("service", of, reason))
    return found


def _joined(texts: Mapping[str, str]) -> str:
    """Returns the texts of `texts` (service → text) in one line, each after the services that gave it. Texts that
    differ only in numbers count as one.
    """
    alike: dict[str, tuple[str, list[str]]] = {}
    for service, text in texts.items():
        alike.setdefault(re.sub(r"[0-9.]+", "0", text), (text, []))[1].append(service)
    return "; ".join(f"{_named(services)}: {text}" for text, services in alike.values())


def _named(services: Sequence[str]) -> str:
    return "all services" if len(services) == len(SERVICES) else ", ".join(services)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)
