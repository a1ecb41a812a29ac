"""`python -m shared.web.healthcheck`: exit 0 if the service of this container answers `/health`.

Only the standard library: it runs every few seconds in every container.
"""

import http.client
import os
import sys

TIMEOUT_S = 3


def is_healthy(port: int) -> bool:
    """Whether what listens on the port of this machine answers 200."""
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
