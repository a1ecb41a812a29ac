"""Models the rebuild of a live release's artifact, if no instance can be started from the artifact any more. Pure."""

from datetime import datetime, timedelta

from pydantic import BaseModel

from shared.runtime.backoff import backoff_s

FIRST_DELAY_S = 60.0
LONGEST_DELAY_S = 3600.0


class Rebuild(BaseModel):
    """Records the rebuild of a live release's artifact: its cause, its progress and failed tries. It ends when the
    release is no longer live.
    """

    cause: str
    """Says why the artifact cannot be run."""
    next_at: datetime
    """Time from which the build service is asked for a build."""
    build: str = ""
    """Id of the build that was asked for; empty while none is under way."""
    tries: int = 0
    """Number of tries that failed."""
    failure: str = ""
    """Says why the last try failed, or what the next one waits for; empty if there is neither."""

    @property
    def problem(self) -> str:
        """Returns, for people, why the artifact cannot be run, and what happens about it."""
        if self.build:
            return f"{self.cause}; {self.build} builds its commit again"
        if not self.failure:
            return f"{self.cause}; its commit is built again"
        if not self.tries:
            return f"{self.cause}; its commit is to be built again, which {self.failure}"
        at = f"{self.next_at:%Y-%m-%d %H:%M} UTC"
        return f"{self.cause}; its commit could not be built again: {self.failure}. Push a commit; else next try: {at}"


def asked(rebuild: Rebuild, build: str) -> Rebuild:
    """Returns the rebuild with the id of the build that was asked for and is now under way."""
    return rebuild.model_copy(update={"build": build, "failure": ""})


def postponed(rebuild: Rebuild, waits_for: str) -> Rebuild:
    """Returns the rebuild with the reason `waits_for` for people, because the build service could not be asked yet."""
    return rebuild.model_copy(update={"failure": waits_for})


def failed(rebuild: Rebuild, failure: str, now: datetime) -> Rebuild:
    """Returns the rebuild after a try that failed, with the time of the next try: after a minute at first, then after
    twice as long each time, up to an hour.
    """
    tries = rebuild.tries + 1
    delay_s = backoff_s(tries, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
    update = {"build": "", "tries": tries, "failure": failure, "next_at": now + timedelta(seconds=delay_s)}
    return rebuild.model_copy(update=update)
