"""Implements clients of a stack for tests, demo and benchmarks: a developer who pushes, visitors, a load, a mail
server. May import `stack.local`. Imported by `compose`, `demo`, `bench` and the tests.
"""
