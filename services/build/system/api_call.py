"""Writes a call of the platform's API as reasons name it, so that a person can send it."""

import json
from typing import Any


def api_call(method: str, path: str, body: Any = None) -> str:
    """Returns `PUT /apps/notes {"baseline": true}`; without a body only method and path."""
    return f"{method} {path}" + ("" if body is None else f" {json.dumps(body, ensure_ascii=False)}")
