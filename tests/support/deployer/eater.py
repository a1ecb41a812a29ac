"""Apps that use memory as they are told to, and what a test asks about them."""

import asyncio
import sys
from pathlib import Path

from services.deployer.drivers.driver import InstanceSpec, InstanceStatus, Usage
from services.deployer.drivers.process.driver import ProcessDriver
from services.deployer.drivers.process.record import InstanceFolder, ProcessRecord, instances_root
from shared.manifest import MIB
from shared.models import Artifact

ID = "notes-r1-1"
POLL_S = 0.1
# Holds as many MiB as the file `wanted` in its HOME says; `held` says how many it does.
EATER = """
import os, time
held = b""
while True:
    try:
        wanted = int(open("../home/wanted").read() or 0)
    except FileNotFoundError:
        wanted = 0
    if wanted << 20 != len(held):
        held = b""
        held = b"x" * (wanted << 20)
        open("../home/held", "w").write(str(wanted))
    time.sleep(0.02)
"""
# Its child eats more than there is; it lives on.
PARENT = """
import subprocess, sys, time
child = subprocess.run([sys.executable, "-c", "x = b'x' * (200 << 20)"])
print("child", child.returncode, flush=True)
time.sleep(60)
"""
# Two processes that share 40 MiB.
FORKED = """
import os, time
shared = b"x" * (40 << 20)
os.fork()
print("forked", flush=True)
time.sleep(60)
"""


def a_spec(tmp_path: Path, program: str = EATER, memory: int = 48 * MIB) -> InstanceSpec:
    artifact = tmp_path / "artifact"
    artifact.mkdir(exist_ok=True)
    (artifact / "app.py").write_text(program)
    sealed = Artifact(kind="directory", ref=str(artifact), digest="sha256:0")
    return InstanceSpec(ID, sealed, f"{sys.executable} app.py", {}, memory, 8000)


def record_of(home: Path) -> ProcessRecord:
    record = InstanceFolder(instances_root(home) / ID).read()
    assert record is not None
    return record


def group_of(home: Path) -> Path:
    return Path(record_of(home).group)


async def eat(home: Path, mib: int) -> None:
    """Returns when the instance holds that much."""
    own = instances_root(home) / ID / "home"
    (own / "wanted").write_text(str(mib))
    async with asyncio.timeout(10):
        while not (own / "held").exists() or (own / "held").read_text() != str(mib):
            await asyncio.sleep(0.02)


async def overeat(driver: ProcessDriver, home: Path, mib: int) -> InstanceStatus:
    """The status of the instance after that was too much."""
    (instances_root(home) / ID / "home" / "wanted").write_text(str(mib))
    async with asyncio.timeout(10):
        while (status := (await driver.statuses())[ID]).running:
            await driver.enforce()
            await asyncio.sleep(POLL_S)
    return status


async def used(driver: ProcessDriver) -> Usage:
    return (await driver.usage([ID]))[ID]


async def printed(driver: ProcessDriver, line: str) -> None:
    async with asyncio.timeout(10):
        while line not in await driver.logs(ID, 100):
            await asyncio.sleep(0.02)
