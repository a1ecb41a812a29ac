"""Runs detect-secrets, without the import of `requests`, as a program of its own that imports nothing of the platform.
Its arguments are those of `detect-secrets`.

The plugins of detect-secrets need `requests` only to verify secrets that they have found, which `scan --no-verify` does
not do. The import would take two thirds of the program's start, so an empty module takes its place.
"""

import sys
from types import ModuleType

stand_in = ModuleType("requests")
stand_in.Response = object  # type: ignore[attr-defined]  # the type of a result, as some plugins declare it
sys.modules["requests"] = stand_in

from detect_secrets.main import main  # noqa: E402  # after the stand-in

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
