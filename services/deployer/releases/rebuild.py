"""Models the rebuild of a live release's artifact, from which no instance can be started any more. Pure."""

from datetime import datetime, timedelta

from pydantic import BaseModel

from shared.runtime.backoff import backoff_s

FIRST_DELAY_S = 60.0
LONGEST_DELAY_S = 3600.0


class Rebuild(BaseModel):
    """The rebuild of an artifact: build is asked to build the release's commit again, until another release takes the
    place of this one.
    """

    cause: str
    """Why the artifact cannot be run."""
    next_at: datetime
    """Time from which build is asked."""
    build: str = ""
    """Id of the build that was asked for; empty while none is under way."""
    tries: int = 0
    """Number of tries that failed."""
    failure: str = ""
    """Why the last try failed, or what the next one waits for; empty before that."""

    @property
    def problem(self) -> str:
        """Returns what is wrong, and what is done about it, for people."""
        if self.build:
            return f"{self.cause}; {self.build} builds its commit again"
        if not self.failure:
            return f"{self.cause}; its commit is built again"
        if not self.tries:
            return f"{self.cause}; its commit is to be built again, which {self.failure}"
        at = f"{self.next_at:%Y-%m-%d %H:%M} UTC"
        return f"{self.cause}; its commit could not be built again: {self.failure}. Push a commit; else next try: {at}"


def asked(rebuild: Rebuild, build: str) -> Rebuild:
    """Returns it with the build that is under way."""
    return rebuild.model_copy(update={"build": build, "failure": ""})


def postponed(rebuild: Rebuild, waits_for: str) -> Rebuild:
    """Returns it while a part of the platform is away, so that build could not be asked."""
    return rebuild.model_copy(update={"failure": waits_for})


def failed(rebuild: Rebuild, failure: str, now: datetime) -> Rebuild:
    """Returns it after a try that failed; the next one follows after a minute, then after twice as long each time, up
    to an hour.
    """
    tries = rebuild.tries + 1
    delay_s = backoff_s(tries, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
    update = {"build": "", "tries": tries, "failure": failure, "next_at": now + timedelta(seconds=delay_s)}
    return rebuild.model_copy(update=update)
