"""Puts the reason of an instance's failure into words, and picks the lines of its output that matter. Pure."""

import re
from collections.abc import Sequence

from shared.manifest import Run

FIRST_LINES, LAST_LINES = 5, 15
NOTHING = re.compile(r"(?!)")
_OWN_AGENTS = re.compile(r"\bEnvoy/HC\b|[\"'\s]slipway[\"'\s]*$")


def failure_reason(reason: str, address: str, run: Run, listening: Sequence[str] | None) -> str:
    """Returns `reason`, why an instance failed, with helpful facts added: on which addresses it listens instead of
    `address`, the command that was run, the files from which that command was inferred, and the remedy. `address` is
    where the instance should listen; `listening` holds the addresses on which it does, None if unknown.
    """
    seen = f"nothing listens on {address}"
    if address and seen in reason:
        reason = reason.replace(seen, _unheard(address, listening))
    if re.search(r"it ended with exit code 0\b", reason):
        reason += ", but an app has to run on, and to listen on $PORT"
    return f"{reason}; {_command(run)}" if _is_about_command(reason) else reason


def _unheard(address: str, listening: Sequence[str] | None) -> str:
    port = address.rpartition(":")[2]
    unheard = f"nothing listens on $PORT {port}"
    if listening is None:
        return unheard
    if not listening:
        return f"{unheard}; the app listens on no port at all"
    elsewhere = f"it listens on {', '.join(listening)}"
    if any(each.rpartition(":")[2] == port for each in listening):
        return f"{unheard} where the platform reaches it; {elsewhere}: let the app listen on 0.0.0.0:{port}"
    where = "$PORT" if address.startswith("127.") else "0.0.0.0:$PORT"
    return f"{unheard}; {elsewhere}: let the app listen on {where}"


def _is_about_command(reason: str) -> bool:
    return reason.startswith(("it ended", "not ready"))


def _command(run: Run) -> str:
    if not run.command:
        return "it ran the command of its image"
    if run.command_from:
        wrong = "if that is wrong, write run.command in slipway.yml"
        return f"it ran `{run.command}`, inferred from {run.command_from}; {wrong}"
    return f"it ran `{run.command}`"


def output_excerpt(lines: Sequence[str], health: str) -> list[str]:
    """Returns the first 5 and the last 15 of `lines`, the output of an instance, without lines about the platform's own
    health probes. Between them a line says how many were left out. `health` is the path of the probes; empty if they
    send no request.
    """
    asked = NOTHING if not health else re.compile(rf"\bGET {re.escape(health)}(\?\S*)?( HTTP/\d|[\"'\s]+\d{{3}}\b)")
    own = [line for line in lines if not asked.search(line) and not _OWN_AGENTS.search(line)]
    left_out = len(own) - FIRST_LINES - LAST_LINES
    if left_out <= 0:
        return own
    return [*own[:FIRST_LINES], f"... {left_out} lines are left out ...", *own[-LAST_LINES:]]
