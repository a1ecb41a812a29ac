"""Monitor: watches instances and canaries, and has a failing canary aborted.

An alert goes inactive → pending → firing → resolved | gone. It is about one release: gone means that its release's
rollout ended. Decisions are made from memory; Redis is written behind, so that an abort does not wait for it.

sample.py       counters of an instance → CPU and memory
traffic.py      counters of a rollout → share of errors, over a window
rule.py         what is measured, from when on it is bad
alert.py        the states of an alert, and of the abort that it asks for
sample_book.py  what is known of instances; alert_book.py: rules and alerts
policy.py       when a memory limit is doubled or halved; policy_look.py: from what, policy_decision.py: what became of it
scaling.py      the loop that decides and has it done; scaling_events.py: OOM kills told by events
policy_store.py, policy_api.py: policies and decisions, kept and shown
loops.py        sampling, watching canaries, aborting, following events
store.py        Redis and memory
api.py          REST
main.py         composition root

A new thing to measure is a Metric in rule.py and its Reading in loops.py, Watch._look.
"""
