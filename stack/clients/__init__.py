"""Clients of a stack for tests, demo and benchmarks: a developer who pushes, visitors, a load, a mail server.

May import `local` of `stack`. Imported by `compose`, `demo`, `bench` and the tests.
"""
