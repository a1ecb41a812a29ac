"""A push deploys a Node app without a Dockerfile and an app with one, and both use the variables that Slipway sets."""

import json
from pathlib import Path

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe, wait_for
from stack.compose.compose_stack import ComposeStack

pytestmark = pytest.mark.docker

NODE = """\
const http = require('http');
const flag = async () => {
  const answer = await fetch(`${process.env.OFREP_ENDPOINT}/ofrep/v1/evaluate/flags/loud`, {
    method: 'POST',
    headers: {Authorization: `Bearer ${process.env.FLAGS_TOKEN}`, 'Content-Type': 'application/json'},
    body: JSON.stringify({context: {targetingKey: 'somebody'}}),
  });
  return (await answer.json()).value;
};
http.createServer(async (request, response) => {
  if (request.url === '/version') return response.end(JSON.stringify({commit: process.env.SLIPWAY_COMMIT}));
  if (request.url === '/flag') return response.end(String(await flag()));
  if (request.url === '/user') return response.end(String(process.getuid()));
  response.end('ok');
}).listen(process.env.PORT);
"""
SHELL_APP = """\
FROM python:3.13-slim
RUN --mount=type=cache,target=/var/cache/made date >/made
COPY app.py /srv/app.py
USER 12345
CMD ["python", "/srv/app.py"]
"""
PYTHON_APP = """\
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"commit": os.environ["SLIPWAY_COMMIT"], "made": os.path.exists("/made"), "uid": os.getuid()})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_node_app_without_a_dockerfile(stack: ComposeStack, tmp_path: Path) -> None:
    app = Deployable(stack, "nodeapp", tmp_path / "nodeapp")
    files = {"server.js": NODE, "package.json": json.dumps({"name": "nodeapp", "scripts": {"start": "node server.js"}})}
    write(app, files)
    app.deliver(Environment.PRODUCTION)
    assert probe(app.production, "/user", app.host).body == "10001"
    switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    app.call("flags", "PUT", "/flags/loud", switch)
    wait_for(lambda: probe(app.production, "/flag", app.host).body == "true", "the flag seen from the container", 5)


def test_an_app_with_a_dockerfile(stack: ComposeStack, tmp_path: Path) -> None:
    app = Deployable(stack, "dockerapp", tmp_path / "dockerapp")
    write(app, {"Dockerfile": SHELL_APP, "app.py": PYTHON_APP})
    commit = app.deliver(Environment.PRODUCTION).commit
    seen = json.loads(probe(app.production, "/", app.host).body)
    assert seen == {"commit": commit, "made": True, "uid": 12345}


def write(app: Deployable, files: dict[str, str]) -> None:
    for name, text in files.items():
        (app.repository.folder / name).write_text(text)
    app.repository.commit("first")
