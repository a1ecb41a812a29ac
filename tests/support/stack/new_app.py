"""An app for tests on a whole stack."""

import json
import shutil
from pathlib import Path

from stack.clients.delivery import Deployable
from stack.local.local_stack import LocalStack
from stack.local.programs import ROOT


def new_app(stack: LocalStack, name: str, folder: Path) -> Deployable:
    """Does the same as the fixture `make_app`, for tests whose app outlives one test."""
    app = Deployable(stack, name, folder)
    app.repository.copy_from(ROOT / "examples" / "notes")
    shutil.rmtree(app.repository.folder / "tests")
    manifest = {"app": name, "run": {"command": "python app.py", "health": "/up"}}
    (app.repository.folder / "slipway.yml").write_text(json.dumps(manifest))
    return app
