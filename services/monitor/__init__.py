"""The monitor watches production and canaries, aborts failing canaries, scales memory and notifies people.

Decisions are made from memory; Redis is written behind, so an abort never waits for it. Packages, each of which may
import only those above it:

rules/     alert rules: metric, threshold, hysteresis
samples/   measurements of instances and releases: caches, downsampling, storage
inventory/ the instances in the registry, and which releases are live
notify/    message texts, recipients, silences, the notifier (apprise)
scaling/   memory limits: input, policy, decision, loop
alerts/    alert states, traffic windows, the evaluator; outages of production, problems of the platform
dispatch/  alert groups, deliveries, the outbox, the dispatcher that follows events
api/       REST and HTML pages

`loops.py` holds the sampler, the abort loop, the event follower and the retention of environments that are gone
(`retention_store.py`), `removed_apps.py` deletes what is held of apps that were removed, `metrics.py` is the Prometheus
collector; `main.py` is the composition root. A new message is an entry in `COMPOSERS` (`notify/event_message.py`); a
new metric is a `Metric` (`rules/rule.py`) with its reading in `alerts/evaluator.py`.
"""
