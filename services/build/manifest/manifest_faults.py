"""Finds requests of a manifest that the app does not permit: loosened gates, and secrets that are not set. Pure."""

from dataclasses import dataclass

from services.build.gates.flaky import limits
from services.build.gates.gate import AT_LEAST, minimum, number
from services.build.secrets.secret import Secrets
from services.build.system.api_call import api_call
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


def loosened(app: str, own: Gates, asked: Gates) -> list[Fault]:
    """Returns a fault for each gate whose threshold in the manifest (`asked`) is looser than the one that is set on the
    app (`own`), or than the platform's default if none is set.
    """
    return _loosened(app, "gates", minimum(own), asked, own)


def loosened_flaky(app: str, own: Flaky, asked: Flaky) -> list[Fault]:
    """Returns a fault for each limit for flaky tests that is looser in the manifest (`asked`) than the one that is set
    on the app (`own`), or than the platform's default if none is set.
    """
    return _loosened(app, "flaky", limits(own, Flaky()), asked, own)


def missing_secrets(manifest: Manifest, secrets: Secrets) -> list[Fault]:
    """Returns a fault for each secret that a step or test service names but that is not set or cannot be decrypted."""
    found = []
    for index, step in enumerate(manifest.steps):
        services = [(f"steps.{index}.services.{position}", each) for position, each in enumerate(step.services)]
        for field, named in [(f"steps.{index}", step), *services]:
            for position, name in enumerate(named.secrets):
                if name not in secrets.values:
                    why = "cannot be decrypted with the platform's key" if name in secrets.lost else "is not set"
                    remedy = f"{api_call('PUT', f'/apps/{manifest.app}/secrets/{name}', {'value': '…'})} sets it"
                    detail = f"the step {step.name} wants the secret {name}, which {why}; {remedy}"
                    found.append(Fault(f"{field}.secrets.{position}", detail))
    return found


def _loosened(app: str, key: str, floor: Gates | Flaky, asked: Gates | Flaky, own: Gates | Flaky) -> list[Fault]:
    """Returns a fault for each field that is looser in `asked`, the manifest's settings under `key`, than in `floor`,
    the loosest that the app permits. `own` holds what is set on the app. The remedy in each fault is one API call that
    makes the app permit all of them.
    """
    laxer = {
        name: (value, least)
        for name, least in floor
        if least is not None
        and (value := getattr(asked, name)) is not None
        and (value < least if name in AT_LEAST else value > least)
    }
    permitted = own.model_dump(exclude_none=True) | {name: value for name, (value, _) in laxer.items()}
    call = api_call("PUT", f"/apps/{app}", {key: permitted})
    faults = []
    for name, (value, least) in laxer.items():
        whose = "the platform's default" if getattr(own, name) is None else "the app's minimum"
        what = "a gate" if key == "gates" else "it"
        faults.append(
            Fault(
                f"{key}.{name}",
                f"{number(value)} loosens {whose} of {number(least)}; a manifest may only tighten {what}. "
                f"Tighten it here, or have a person permit it: {call}",
            )
        )
    return faults
