"""Scans a folder with detect-secrets; run as a program of its own, which imports nothing of the platform. Its arguments
are those of `detect-secrets`.

The plugins of detect-secrets import `requests` to verify what they find, which `scan --no-verify` does not do. That
import takes two thirds of the time that the whole program takes to start, so a stand-in takes its place.
"""

import sys
from types import ModuleType

stand_in = ModuleType("requests")
stand_in.Response = object  # type: ignore[attr-defined]  # the type of a result, as some plugins declare it
sys.modules["requests"] = stand_in

from detect_secrets.main import main  # noqa: E402  # after the stand-in

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
