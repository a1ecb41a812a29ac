"""Finds requests of a manifest that the app does not permit: loosened gates, and secrets that are not set. Pure."""

from dataclasses import dataclass

from services.build.gates.flaky import limits
from services.build.gates.gate import AT_LEAST, minimum, number
from services.build.secrets.secret import Secrets
from shared.manifest import Flaky, Gates, Manifest


@dataclass(frozen=True)
class Fault:
    """Describes a fault of a manifest by field and line. `detail` continues a sentence that begins with the field, and
    names the remedy.
    """

    field: str
    detail: str
    line: int | None = None

    def __str__(self) -> str:
        at = f" (line {self.line})" if self.line else ""
        return f"{self.field}{at}: {self.detail}"


def loosened(app: Gates, asked: Gates) -> list[Fault]:
    """Returns a fault for each gate whose threshold in the manifest (`asked`) is looser than the app's minimum."""
    return _loosened("gates", minimum(app), asked, app)


def loosened_flaky(app: Flaky, asked: Flaky) -> list[Fault]:
    """Returns a fault for each limit of the manifest's `flaky` (`asked`) that is looser than the app's."""
    return _loosened("flaky", limits(app, Flaky()), asked, app)


def missing_secrets(manifest: Manifest, secrets: Secrets) -> list[Fault]:
    """Returns a fault for each secret that a step or test service names but that is not set or cannot be decrypted."""
    found = []
    for index, step in enumerate(manifest.steps):
        services = [(f"steps.{index}.services.{position}", each) for position, each in enumerate(step.services)]
        for field, named in [(f"steps.{index}", step), *services]:
            for position, name in enumerate(named.secrets):
                if name not in secrets.values:
                    why = "cannot be decrypted with the platform's key" if name in secrets.lost else "is not set"
                    remedy = f"PUT /apps/{manifest.app}/secrets/{name} sets it"
                    detail = f"the step {step.name} wants the secret {name}, which {why}; {remedy}"
                    found.append(Fault(f"{field}.secrets.{position}", detail))
    return found


def _loosened(key: str, floor: Gates | Flaky, asked: Gates | Flaky, app: Gates | Flaky) -> list[Fault]:
    faults = []
    for name, least in floor:
        value = getattr(asked, name)
        if least is None or value is None:
            continue
        if value < least if name in AT_LEAST else value > least:
            whose = "the platform's default" if getattr(app, name) is None else "the app's minimum"
            faults.append(
                Fault(
                    f"{key}.{name}",
                    f"{number(value)} loosens {whose} of {number(least)}; a manifest may only tighten "
                    f"{'a gate' if key == 'gates' else 'it'}. Set the app's own minimum by PUT /apps/{{app}}",
                )
            )
    return faults
