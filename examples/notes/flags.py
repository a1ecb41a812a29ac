"""A feature flag over OFREP (OpenFeature Remote Evaluation Protocol), with the last known value when it is silent."""

import contextlib
import http.client
import json
from urllib.parse import urlsplit

CONNECT_OR_READ_S = 0.25  # each; so a lookup takes at most 0.5 s


class Flag:
    """One boolean flag: off until the flags service once said otherwise, and then what it last said."""

    def __init__(self, key: str, endpoint: str, token: str, targeting_key: str) -> None:
        self.value = False
        self._path = f"/ofrep/v1/evaluate/flags/{key}"
        self._address = urlsplit(endpoint).netloc
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._body = json.dumps({"context": {"targetingKey": targeting_key}})

    def look_up(self) -> bool:
        """Asks now. No answer, or one that cannot be read, leaves the value as it was."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            self.value = self._ask()
        return self.value

    def _ask(self) -> bool:
        connection = http.client.HTTPConnection(self._address, timeout=CONNECT_OR_READ_S)
        try:
            connection.request("POST", self._path, self._body, self._headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"the flags service answered {answer.status}")
            return json.load(answer)["value"] is True
        finally:
            connection.close()
