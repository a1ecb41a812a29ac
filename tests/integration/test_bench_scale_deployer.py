"""The benchmark of the deployer with idle apps measures something, and leaves nothing behind."""

from pathlib import Path

import pytest

from bench.scale.deployer import rows
from services.deployer.drivers.process.linux_process import marked_with
from services.deployer.drivers.process.record import InstanceFolder, instance_ids_in, instances_root


@pytest.mark.anyio
@pytest.mark.slow
async def test_each_number_of_apps_has_its_row(tmp_path: Path) -> None:
    found = await rows(tmp_path, (1, 3), window_s=0.5)
    assert [row.apps for row in found] == [1, 3]
    assert all(row.stats_ms > 0 and row.registry_ms > 0 for row in found)
    root = instances_root(tmp_path)
    records = [InstanceFolder(root / instance_id).read() for instance_id in instance_ids_in(root)]
    assert [record.id for record in records if record] == ["app0-r1-1", "app1-r1-1", "app2-r1-1"]
    assert [stat for record in records if record for stat in marked_with(record.marker)] == []
