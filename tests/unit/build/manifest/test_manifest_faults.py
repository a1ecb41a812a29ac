from pathlib import Path

import pytest

from services.build.manifest.manifest_faults import loosened, loosened_flaky, missing_secrets
from services.build.secrets.secret import new_secret, opened
from shared.manifest import Flaky, Gates, Manifest
from shared.security.vault import Vault
from tests.support.build.builds import AT


def test_a_manifest_may_be_less_patient_with_failing_tests_but_not_more() -> None:
    assert loosened_flaky("notes", Flaky(), Flaky(reruns=0, at_most=2)) == []
    assert loosened_flaky("notes", Flaky(at_most=9), Flaky(at_most=8)) == []
    faults = loosened_flaky("notes", Flaky(reruns=0), Flaky(reruns=1, at_most=6))
    assert [(fault.field, "app's minimum" in fault.detail) for fault in faults] == [
        ("flaky.reruns", True),
        ("flaky.at_most", False),
    ]


@pytest.mark.parametrize(
    ("app", "manifest", "fields"),
    [
        (Gates(), Gates(complexity=30), ["gates.complexity"]),
        (Gates(), Gates(complexity=10, coverage=1, findings=5), []),
        (Gates(coverage=70), Gates(coverage=69.5), ["gates.coverage"]),
        (Gates(coverage=70), Gates(coverage=70), []),
        (Gates(complexity=40), Gates(complexity=30), []),
        (Gates(), Gates(test_failures=1, secrets=1), ["gates.test_failures", "gates.secrets"]),
        (Gates(test_failures=5), Gates(test_failures=3), []),
    ],
)
def test_a_manifest_may_tighten_but_not_loosen(app: Gates, manifest: Gates, fields: list[str]) -> None:
    faults = loosened("notes", app, manifest)
    assert [fault.field for fault in faults] == fields
    assert all('PUT /apps/notes {"gates": ' in fault.detail for fault in faults)


def test_a_fault_says_which_secret_a_step_cannot_get(tmp_path: Path) -> None:
    vault, other = (Vault(tmp_path / name, "build:secrets") for name in ("key", "other"))
    stored = {"A": new_secret("A", "value of a", {}, AT, vault), "B": new_secret("B", "value of b", {}, AT, other)}
    secrets = opened(stored, vault)
    steps = [
        {"name": "free", "commands": ["true"]},
        {"name": "push", "commands": ["true"], "secrets": ["A", "B", "C"]},
    ]
    manifest = Manifest.model_validate({"app": "notes", "steps": steps})
    assert [str(fault) for fault in missing_secrets(manifest, secrets)] == [
        "steps.1.secrets.1: the step push wants the secret B, which cannot be decrypted with the platform's key; "
        'PUT /apps/notes/secrets/B {"value": "…"} sets it',
        "steps.1.secrets.2: the step push wants the secret C, which is not set; "
        'PUT /apps/notes/secrets/C {"value": "…"} sets it',
    ]
    manifest.steps[1].secrets = ["A"]
    assert missing_secrets(manifest, secrets) == []
