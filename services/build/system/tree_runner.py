"""Runs a command until its end, and later ends everything that it has started. It is a program of its own, which
imports nothing of the service: `python -I -S tree_runner.py <grace period in seconds>`.

As a child subreaper it becomes the parent of every process below it whose own parent ends, so nothing leaves its tree:
neither a daemon, nor a process that has cleaned or overwritten its environment. It prints the command's exit code, and
then waits for the end of its standard input: the service closes that, or has died. Standard error is the output of the
command. It imports little, since it starts with each command.

It has three guards against a command that kills it by accident. The command's parent is a process of its own, which
`kill -9 $PPID` ends. The command comes in the variables `SLIPWAY_RUN_0`, …, so that `pkill -9 -f <word>` does not find
its words here. And it is named `slipway-step`, which `killall -9 python3` passes over.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 4, 15, 36  # linux/prctl.h
ARGUMENT = "SLIPWAY_RUN_"
REAP_S = 1.0
LOOK_AGAIN_S = 0.02
FORK_S = 30.0  # until a machine that is short of memory or processes has some again
KILL_TIMEOUT_S = 5.0  # a process that waits for a device ends only when the kernel lets it


def main(grace_s: float, command: list[str]) -> None:
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("the kernel knows no child subreapers; Linux 3.4 or newer is needed")
    prctl(PR_SET_NAME, b"slipway-step", 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = _fork()
    if not parent:
        _be_parent(command)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the pipe must end as soon as no process of the step writes into it
    waited = [0, os.pidfd_open(parent)]
    while True:
        readable, _, _ = select.select(waited, [], [], REAP_S)
        code = _reap().get(parent)
        if 0 in readable:
            break
        if code is not None and len(waited) > 1:  # otherwise it is an orphan that got the same pid
            waited = [0]
            try:
                os.write(1, b"%d\n" % code)
            except BrokenPipeError:
                break
    _end_all(grace_s)


def _fork() -> int:
    """Forks as soon as the machine has memory and processes for it. Raises OSError if it has none for 30 s."""
    late_at = time.monotonic() + FORK_S
    while True:
        try:
            return os.fork()
        except OSError:
            if time.monotonic() > late_at:
                raise
        time.sleep(LOOK_AGAIN_S)


def _be_parent(command: list[str]) -> None:
    """Runs the command as a child process, and ends with the same exit code or by the same signal."""
    child = _fork()
    if not child:
        _execute(command)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no second core
        _reset_signals()
        os.kill(os.getpid(), -code)
    os._exit(code)


def _execute(command: list[str]) -> None:
    _reset_signals()
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _reset_signals() -> None:
    """Lets signals end this process again, because the command would inherit that they are ignored. Python itself
    ignores the last two.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _reap() -> dict[int, int | None]:
    """Removes children that have ended and are zombies. Returns pid → exit code; a key 0 with the value None says that
    children are left.
    """
    codes: dict[int, int | None] = {}
    while 0 not in codes:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        codes[pid] = os.waitstatus_to_exitcode(status) if pid else None
    return codes


def _end_all(grace_s: float) -> None:
    """Ends all processes of the tree: sends SIGTERM, and SIGKILL after the grace period."""
    late_at, seen = time.monotonic() + grace_s, set[int]()
    while 0 in _reap() and time.monotonic() < late_at + KILL_TIMEOUT_S:
        late = time.monotonic() > late_at
        for pid in _descendants():
            if late or pid not in seen:
                try:
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                except (ProcessLookupError, PermissionError):
                    continue
            seen.add(pid)
        time.sleep(LOOK_AGAIN_S)


def _descendants() -> list[int]:
    """Returns the pids of all processes below this one in the tree, including zombies."""
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            continue  # the process has ended in the meantime
        children.setdefault(parent, []).append(int(pid))
    found: list[int] = []
    left = [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


if __name__ == "__main__":
    words: list[str] = []
    while (word := os.environ.pop(f"{ARGUMENT}{len(words)}", None)) is not None:
        words.append(word)
    main(float(sys.argv[1]), words)
