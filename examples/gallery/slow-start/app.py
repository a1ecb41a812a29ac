"""Takes 20 seconds until it listens."""

import http.server
import os
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello from slow-start"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


time.sleep(20)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
