from pathlib import Path

from services.proxy.envoy.access_log import FLUSH_ARGUMENTS
from shared.config import SharedSettings
from stack.local.programs import ROOT, supervisor_conf


def test_envoy_writes_its_access_log_at_once_wherever_it_is_started(tmp_path: Path) -> None:
    name, value = FLUSH_ARGUMENTS
    assert f'"{name}" "{value}"' in supervisor_conf(SharedSettings(home=tmp_path))
    assert f"{name} {value}" in (ROOT / "Dockerfile").read_text()
