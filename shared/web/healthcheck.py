"""Checks the service in this container: `python shared/web/healthcheck.py` exits with 0 if `/health` answers 200.

Imports only what takes no time, because it runs twice a minute in every container: not even `http.client`.
"""

import os
import socket
import sys

TIMEOUT_S = 3


def is_healthy(port: int) -> bool:
    """Returns True if `GET /health` on this port of 127.0.0.1 answers with status 200 within 3 s."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            return connection.makefile("rb").readline(256).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    service = os.environ["SLIPWAY_SERVICE"].upper()
    sys.exit(not is_healthy(int(os.environ[f"SLIPWAY_{service}_PORT"])))
