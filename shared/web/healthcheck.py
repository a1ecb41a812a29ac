"""Checks the service in this container: `python -m shared.web.healthcheck` exits with 0 if `/health` answers 200.

Imports only the standard library, because it runs every few seconds in every container.
"""

import http.client
import os
import sys

TIMEOUT_S = 3


def is_healthy(port: int) -> bool:
    """Returns True if `GET /health` on this port of 127.0.0.1 answers with status 200 within 3 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    service = os.environ["SLIPWAY_SERVICE"].upper()
    sys.exit(not is_healthy(int(os.environ[f"SLIPWAY_{service}_PORT"])))
