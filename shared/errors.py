"""Defines the errors that clients get, as RFC 9457 problem details.

Problem
  Invalid 422        a field of the request is wrong; names the field and the remedy
  Unauthorized 401   no token, or a wrong one
  Forbidden 403      the token is right, but the call seems to come from another site
  NotFound 404
  Conflict 409       the resource is not in the state that this call needs
  Unavailable 503    a part that this call needs does not answer; try again
  Timeout 504        the part answered, but the requested effect did not come about in time
  InsufficientStorage 507   the disk is full, or nearly
"""

from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """Reports an error to the client as an RFC 9457 problem document. `detail` says what is wrong and what to do;
    `extra` holds further members of the document; `status` replaces the HTTP status of the class.
    """

    status: int = 500

    def __init__(self, detail: str, *, status: int | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or type(self).status
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Returns the body of the `application/problem+json` answer."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.extra}


class Unauthorized(Problem):
    status = 401


class Forbidden(Problem):
    status = 403


class NotFound(Problem):
    status = 404


class Conflict(Problem):
    status = 409


class Invalid(Problem):
    """Reports that a field of the request is wrong. `field` is its path (`gates.coverage`); `detail` names the fault
    and the remedy.
    """

    status = 422

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}", errors=[{"field": field, "detail": detail}])


class Unavailable(Problem):
    status = 503


class Timeout(Problem):
    status = 504


class InsufficientStorage(Problem):
    status = 507
