"""Settings of the tests' stacks that make them wait for less than a stack of its own would."""

import os
import time
from types import MappingProxyType

WATCH_S = 6.0
RATE = float(os.environ.get("E2E_RATE", "100"))  # requests a second; 200 where there is time
CADENCE = MappingProxyType({"SLIPWAY_WATCH_S": f"{WATCH_S:g}"})


def outlast_the_watch() -> None:
    """Waits until what has just gone live is watched no longer: from then on the deployer rolls nothing back."""
    time.sleep(WATCH_S + 1)
