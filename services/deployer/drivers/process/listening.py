"""Finds out on which TCP ports the processes of an instance listen."""

import contextlib

import psutil

from services.deployer.drivers.process.linux_process import marked_with, session_pids
from services.deployer.drivers.process.record import ProcessRecord


def listening_of(record: ProcessRecord) -> list[str]:
    """Returns the addresses on which processes of the instance listen, such as `127.0.0.1:8000`, each once."""
    pids = {stat.pid for stat in marked_with(record.marker)}
    if record.pid is not None and record.runs():
        pids |= set(session_pids({record.pid})[record.pid])
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):  # the process has ended in the meantime
            found |= {
                (each.laddr.port, each.laddr.ip)
                for each in psutil.Process(pid).net_connections("tcp")
                if each.status == psutil.CONN_LISTEN
            }
    return [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for port, ip in sorted(found)]
