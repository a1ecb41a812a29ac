"""Names the signal that ended a process. Pure."""

import signal


def signal_name(number: int) -> str:
    """Returns the name of the signal, like SIGKILL; `signal 40` for a number without a name, as most real-time signals
    have none.
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_words(exit_code: int) -> str:
    """Returns an exit code in words, with the signal that it stands for, if any: `exit code 137 (SIGKILL)`."""
    return f"exit code {exit_code}{f' ({signal_name(exit_code - 128)})' if is_signal(exit_code) else ''}"


def is_signal(exit_code: int) -> bool:
    """Returns True if the exit code is 128 plus the number of a signal, by which a shell reports that a signal ended
    the program.
    """
    return 128 < exit_code <= 128 + signal.SIGRTMAX
