"""Flags: switches and values that change a running app, per environment, in flagd's format.

A flag is `ENABLED` or `DISABLED`. Redis holds the truth; every copy of the service evaluates from memory, so that apps
get answers while Redis is away. Each write bumps a version in the same transaction, by which the copies notice it, and
is announced, so that they notice at once.

flag.py            what a flag is, and what it mirrors
check.py           every fault of a definition, with its path
change.py          what a write makes of the flags there are; If-Match; the switch, and rules set aside
evaluation.py      flag and context → value, by flagd's reference evaluator
transfer.py        whole sets of flags as a file, out and in
difference.py      what a change changed, as a person reads it
usage.py           when each flag was last evaluated
access.py          tokens of apps, tickets of streams, the name under which a change is kept
store.py           what a store promises, and Redis: flags, history, mirrors, events; memory_store.py without a server
app_user_store.py  the Redis user of apps
cache.py           the copy in memory
view.py, page.py   what is told of flags, as JSON and as pages (templates/)
api.py             REST; ofrep_api.py OFREP; transfer_api.py export and import; page_api.py pages and the switch
main.py            composition root
"""
