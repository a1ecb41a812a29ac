"""git's post-receive hook: tells the build service of the push, and shows the pusher what it answers.

Runs beside the service, by any Python 3.11 without its packages. Whatever happens here, the push has been accepted:
the service finds it in the repository by itself.
"""

import os
import socket
import sys


def follow(address: str, message: bytes) -> bool:
    """Copies the answer to stdout as it comes. True if the service was heard to the end (its last byte is NUL)."""
    ended = False
    with socket.socket(socket.AF_UNIX) as service:
        folder, name = os.path.split(address)
        os.chdir(folder)  # a unix socket's address holds about 100 bytes
        service.connect(name)
        service.sendall(message)
        service.shutdown(socket.SHUT_WR)
        while data := service.recv(65536):
            ended = data.endswith(b"\0")
            sys.stdout.buffer.write(data.removesuffix(b"\0"))
            sys.stdout.buffer.flush()
    return ended


def main() -> None:
    app = os.path.basename(os.getcwd()).removesuffix(".git")
    message = app.encode() + b"\n" + sys.stdin.buffer.read()
    try:
        ended = follow(os.environ["SLIPWAY_PUSH_SOCKET"], message)
    except BrokenPipeError:
        os._exit(0)  # the pusher has gone; the build goes on
    except OSError:
        ended = False
    if not ended:
        url = os.environ.get("SLIPWAY_BUILD_URL", "")
        kept = "The build service was interrupted. Your push is kept and will be built"
        print(f"{kept}; follow it at {url}/", flush=True)


if __name__ == "__main__":
    main()
