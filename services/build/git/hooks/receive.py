"""Implements git's hooks pre-receive and post-receive: reports a push to the build service, and prints the answer for
the pusher. Runs outside the service, with Python 3.11 or newer without packages. pre-receive accepts a push only if the
service does. If post-receive cannot reach the service, the service finds the push in the repository later.
"""

import os
import socket
import sys

COMPLETE = b"\0"  # last byte of the answer to pre-receive: the push is accepted
REFUSED = b"\1"


def follow(address: str, message: bytes) -> bytes:
    """Sends `message` to the service, whose unix socket is at `address`, and copies the answer to stdout as it arrives.
    Returns COMPLETE or REFUSED, the last byte of the service's answer; empty if the connection broke before it came.
    """
    last = b""
    with socket.socket(socket.AF_UNIX) as service:
        folder, name = os.path.split(address)
        os.chdir(folder)  # a unix socket's address holds about 100 bytes
        service.connect(name)
        service.sendall(message)
        service.shutdown(socket.SHUT_WR)
        while data := service.recv(65536):
            last = data[-1:]
            sys.stdout.buffer.write(data.rstrip(COMPLETE + REFUSED))
            sys.stdout.buffer.flush()
    return last if last in (COMPLETE, REFUSED) else b""


def answer(hook: str) -> bytes:
    """Reports the push to the service. Returns COMPLETE, REFUSED, or empty bytes if the service is unreachable. The
    message has one line each for the hook, the app, the id of the push and the folder of its objects, and then lines
    `old new ref`.
    """
    app = os.path.basename(os.getcwd()).removesuffix(".git")
    push, objects = os.environ.get("SLIPWAY_PUSH", ""), os.environ.get("GIT_QUARANTINE_PATH", "")
    head = "\n".join([hook, app, push, objects, ""]).encode(errors="surrogateescape")
    try:
        return follow(os.environ["SLIPWAY_PUSH_SOCKET"], head + sys.stdin.buffer.read())
    except BrokenPipeError:
        os._exit(hook == "pre-receive")  # the pusher has disconnected; a build of an accepted push goes on
    except OSError:
        return b""


def pre_receive() -> int:
    said = answer("pre-receive")
    if said == b"":
        why = "Refused: this app's releases are judged before they are accepted, and the build service was interrupted."
        print(f"{why} Nothing of this push was accepted; push again.", flush=True)
    return 0 if said == COMPLETE else 1


def post_receive() -> int:
    if answer("post-receive") == b"":
        url = os.environ.get("SLIPWAY_BUILD_URL", "")
        kept = "The build service was interrupted. Your push is kept and will be built"
        print(f"{kept}; follow it at {url}/", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(pre_receive() if sys.argv[1] == "pre-receive" else post_receive())
