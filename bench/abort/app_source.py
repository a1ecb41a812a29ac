"""Makes the app of bench/abort/app, whose canaries can be bad."""

import json
from pathlib import Path

from stack.clients.delivery import Deployable
from stack.local.local_stack import LocalStack

SOURCE = Path(__file__).parent / "app"


def bad_app(stack: LocalStack, name: str, folder: Path, *, replicas: int = 1) -> Deployable:
    """Returns the app with its files in `folder`, not committed yet."""
    app = Deployable(stack, name, folder)
    app.repository.copy_from(SOURCE)
    run = {"command": "python server.py", "health": "/up"}
    manifest = {"app": name, "run": run, "resources": {"replicas": replicas}}
    (folder / "slipway.yml").write_text(json.dumps(manifest))
    return app
