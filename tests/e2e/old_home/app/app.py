"""The app in the held home: answers its version and what it was told; notes each start in its volume, if it has one."""

import hashlib
import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = 1
STARTS = Path(os.environ.get("SLIPWAY_VOLUME_DATA", os.environ.get("TMPDIR", "."))) / "starts"


def flag(key: str) -> object:
    """The value of a flag for this environment, asked with the app's own token."""
    url = f"{os.environ['OFREP_ENDPOINT']}/ofrep/v1/evaluate/flags/{key}"
    headers = {"Authorization": f"Bearer {os.environ['FLAGS_TOKEN']}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=5) as answer:
        return json.load(answer)["value"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = {
            "/up": lambda: "up",
            "/version": lambda: {"commit": os.environ["SLIPWAY_COMMIT"], "version": VERSION},
            "/told": self.told,
            "/starts": lambda: STARTS.read_text().split(),
        }.get(self.path, lambda: None)()
        body = json.dumps(said).encode()
        self.send_response(404 if said is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def told(self) -> dict[str, object]:
        secret = os.environ.get("DATABASE_URL", "")
        return {
            "greeting": os.environ.get("GREETING"),
            "secret": hashlib.sha256(secret.encode()).hexdigest(),
            "new-page": flag("new-page"),
        }

    def log_message(self, format: str, *args: object) -> None:
        """No access log."""


if __name__ == "__main__":
    with STARTS.open("a") as starts:
        starts.write(os.environ["SLIPWAY_RELEASE"] + "\n")
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
