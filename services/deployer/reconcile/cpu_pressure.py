"""Reads how long processes of this machine have waited for a CPU (the kernel's pressure stall information)."""

from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")


def cpu_waited_s(pressure: Path = PRESSURE) -> float:
    """Returns the seconds since boot in which at least one process of this machine waited for a CPU; 0 if the kernel
    does not count them (before Linux 4.20, or booted with psi=0).
    """
    try:
        some = pressure.read_text().splitlines()[0]  # some avg10=0.00 avg60=0.00 avg300=0.00 total=<microseconds>
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0
