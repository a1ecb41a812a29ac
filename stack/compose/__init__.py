"""Runs the stack in containers: `make up` and `make down`, the network of the apps, first-run secrets.

May import `redis_conf`, `private_file`, `local` and `clients` of `stack`; `compose.py`, `network.py` and `engine.py`
run without installed packages. Imported by `stack_fixture`, `demo`, `bench` and the tests.
"""
