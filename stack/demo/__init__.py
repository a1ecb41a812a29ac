"""Implements `make demo`, which takes an app from push to production and checks each step from outside.

May import every other package of `stack`. Imported by the tests alone.
"""
