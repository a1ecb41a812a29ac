"""Names the signal that ended a process. Pure."""

import signal


def signal_name(number: int) -> str:
    """Returns the signal's name, like SIGKILL; `signal 40` for a number that has no name, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_words(exit_code: int) -> str:
    """Returns an exit code in words, with the signal that it stands for: `exit code 137 (SIGKILL)`."""
    return f"exit code {exit_code}{f' ({signal_name(exit_code - 128)})' if is_signal(exit_code) else ''}"


def is_signal(exit_code: int) -> bool:
    """Returns True if a shell reports an end by a signal with this exit code, which is 128 and the signal's number."""
    return 128 < exit_code <= 128 + signal.SIGRTMAX
