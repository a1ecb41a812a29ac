"""Starts the proxy service: `python -m services.proxy`."""

from services.proxy.main import run

if __name__ == "__main__":
    run()
