"""Finds what Redis holds of an app, and what runs of it."""

import os
from typing import Any

import redis as sync_redis

from services.deployer.drivers.process.record import instances_root
from stack.local.local_stack import LocalStack

SHARED = ("build:all", "build:unended", "build:apps", "build:statuses", "deployer:places", "registry:tracks")
OF_MONITOR = ("monitor:policies", "monitor:scaling", "monitor:alerts", "monitor:silences", "monitor:environments")


def keys(database: "sync_redis.Redis", name: str) -> list[str]:
    """Keys with the app's name, and entries of keys that all apps share; streams, queued messages and alerts about the
    platform apart, whose reasons may name a file. The client decodes answers.
    """
    found: list[str] = [key for key in database.scan_iter(f"*{name}*")]
    for key in (*SHARED, *OF_MONITOR):
        kind = database.type(key)
        entries: Any = {"set": database.smembers, "hash": database.hgetall}.get(
            str(kind), lambda key: database.zrange(key, 0, -1)
        )(key)
        texts = entries.items() if isinstance(entries, dict) else entries
        found += [f"{key} {each}" for each in texts if name in str(each) and ":platform" not in str(each)]
    return found


def processes(stack: LocalStack, prefix: str) -> list[int]:
    """The pids of processes of instances whose names begin with this."""
    folder = instances_root(stack.settings.home)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    found += [int(entry)] if f"{folder}/{prefix}".encode() in environ.read() else []
            except OSError:
                continue
    return found
