"""Recognises probes that time out together, which is evidence about the machine and not about an app. No I/O."""

LONGEST_S = 30.0
BETWEEN_S = 1.0  # from the end of one probe to that of the next


class CommonStall:
    """Holds when apps last answered a probe, and when they last did not in time. `now` is in monotonic seconds.

    If several apps time out while no instance of any app answers, they have the cause in common: the machine, its
    network, or something that all of them use. Another copy of an app would be as slow, so no app is blamed. After
    30 s the time-outs count again: people must hear of an outage, also of one that has a common cause.
    """

    def __init__(self) -> None:
        self._answered_at = float("-inf")
        self._late_at: dict[str, float] = {}
        self._since: float | None = None

    def answered(self, app: str, now: float) -> None:
        """Records an answer, with any status; also a refused connection, since that takes a machine on time."""
        self._answered_at, self._since = now, None
        self._late_at.pop(app, None)

    def timed_out(self, app: str, now: float) -> None:
        """Records a time-out of an instance that was well before."""
        self._late_at[app] = now

    def covers(self, app: str, begun: float, now: float) -> bool:
        """Returns True if a probe of `app` that began at `begun`, and timed out, must not count as a miss."""
        others_late = any(at >= begun - BETWEEN_S for other, at in self._late_at.items() if other != app)
        if self._answered_at >= begun or not others_late:
            return False
        self._since = begun if self._since is None else self._since
        return now - self._since < LONGEST_S

    def problem(self, now: float) -> str | None:
        """Returns the reason, for `/ready`, why probes cannot tell anything now, or None."""
        is_recent = any(now - at < LONGEST_S for at in self._late_at.values())  # else these apps are gone
        if self._since is None or not is_recent:
            return None
        return f"no instance of any app has answered a probe in time for {now - self._since:.0f} s"
