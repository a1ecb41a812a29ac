"""Watches production and canaries, aborts failing canaries, scales memory and notifies people.

The monitor decides from data in memory and writes to Redis afterwards, so that an abort never waits for Redis. Each of
these packages may import only those above it:

rules/     alert rules: metric, threshold, hysteresis
samples/   measurements of instances and releases: caches, downsampling, storage
inventory/ the instances in the registry, which releases are live, and whether a canary is ill by its own fault
analysis/  the judge, which compares a canary's requests with production's; pure
notify/    message texts, recipients, silences, the notifier (apprise)
scaling/   memory limits: input, policy, decision, loop
alerts/    alert states, traffic windows, the evaluator, which feeds the judge; outages, problems of the platform
progress/  steps of rollouts: the decision at the end of each, and the loop that sends it to the proxy
checks/    apps' own metrics and hooks: settings, calls, states
evidence/  what analyses found: records of rollouts, series for charts, metrics of Prometheus
dispatch/  alert groups, deliveries, the outbox, the dispatcher that follows events
api/       REST and HTML pages

`loops.py` holds the sampler, the abort loop and the event follower, and deletes data of environments that no longer
exist (with `retention_store.py`); `removed_apps.py` deletes data of removed apps. `metrics.py` exports metrics to
Prometheus; `main.py` assembles the service. A new message is an entry in `COMPOSERS` (`notify/event_message.py`); a new
metric for rules is a `Metric` (`rules/rule.py`) with its computation in `alerts/readings.py`.
"""
