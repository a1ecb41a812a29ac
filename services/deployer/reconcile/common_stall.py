"""Recognises when probes of several apps time out together, which is evidence against the machine and not against an
app. No I/O.
"""

LONGEST_S = 30.0
BETWEEN_S = 1.0  # between the ends of two probes


class CommonStall:
    """Remembers when each app last answered a probe, and when its probe last timed out. `now` and `begun` are monotonic
    seconds. If probes of several apps time out while none succeeds, the cause is common to them: the machine, its
    network, or something that all of them use. A replacement would be as slow, so no app is blamed. After 30 s the
    time-outs count nevertheless, since people must hear of an outage.
    """

    def __init__(self) -> None:
        self._answered_at = float("-inf")
        self._late_at: dict[str, float] = {}
        self._since: float | None = None

    def answered(self, app: str, now: float) -> None:
        """Records that the app answered, with any status. A refused connection is an answer too, because only a
        responsive machine sends it.
        """
        self._answered_at, self._since = now, None
        self._late_at.pop(app, None)

    def timed_out(self, app: str, now: float) -> None:
        """Records that a probe of one of the app's instances timed out. Call it only if at most the two probes of that
        instance before this one have failed, because a longer failure says nothing about the machine.
        """
        self._late_at[app] = now

    def covers(self, app: str, begun: float, now: float) -> bool:
        """Returns True if a probe of `app` that began at `begun`, and timed out, must not count as a failure."""
        others_late = any(at >= begun - BETWEEN_S for other, at in self._late_at.items() if other != app)
        if self._answered_at >= begun or not others_late:
            return False
        self._since = begun if self._since is None else self._since
        return now - self._since < LONGEST_S

    def problem(self, now: float) -> str | None:
        """Returns the reason why probes now say nothing about apps, to be shown by `GET /ready`; None if they do."""
        is_recent = any(now - at < LONGEST_S for at in self._late_at.values())  # otherwise these apps no longer exist
        if self._since is None or not is_recent:
            return None
        return f"no instance of any app has answered a probe in time for {now - self._since:.0f} s"
