"""Formats calls of the platform's API for texts that tell people which call to send."""

import json
from typing import Any


def api_call(method: str, path: str, body: Any = None) -> str:
    """Returns the call as text, such as `PUT /apps/notes {"baseline": true}`; without a body only method and path."""
    return f"{method} {path}" + ("" if body is None else f" {json.dumps(body, ensure_ascii=False)}")
