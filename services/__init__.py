"""Holds the five services of the platform: build, deployer, monitor, flags, proxy.

Each is a package that runs as its own process (`python -m services.<name>`). A service may import `shared`, never
another service; `tests/test_architecture.py` checks that. `stack` and the tests start the services and import parts of
them.
"""
