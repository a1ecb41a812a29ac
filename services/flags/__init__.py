"""Flags: switches and values that change a running app, per environment, in flagd's format.

A flag is `ENABLED` or `DISABLED`. Redis holds the truth; every copy of the service evaluates from memory, so that apps
get answers while Redis is away. Each write bumps a version in the same transaction, by which the copies notice it.

flag.py        what a flag is, its check on write, what it mirrors
evaluation.py  flag and context → value, by flagd's reference evaluator
store.py       the store (Redis, memory), its history, plain mirrors and events; the Redis user of apps
cache.py       the copy in memory
api.py         REST and OFREP
main.py        composition root
"""
