"""Monitor: watches production and canaries, and has a failing canary aborted.

An alert goes inactive → pending → firing → resolved | gone. It is about one release in one environment: gone means that
its canary's rollout ended, or that production runs another release. Decisions are made from memory; Redis is written
behind, so that an abort does not wait for it.

sample.py, traffic_sample.py   counters → samples of an instance, of a release
latency.py, growth.py          buckets → quantiles; counters that instances pass on → restarts
rollup.py, series.py           samples → rows of a minute; the last minutes of one series
backlog.py                     what waits for Redis
sample_book.py, fault_book.py  what is known of instances; of their restarts and OOM kills
traffic_book.py                what is known of releases' traffic
traffic.py                     counters of an app's two tracks → errors and slowness, over a window
fleet.py                       what the registry holds, and which release is live
rule.py, alert.py              what is measured, from when on it is bad; the states of an alert, and of its abort
alert_book.py                  rules and alerts, as they are decided
watch.py                       the look at each app; loops.py: sampling, aborting, following events
policy.py                      when a memory limit is doubled or halved; policy_look.py: from what
policy_decision.py             a decision, and what became of it; scaling.py: the loop that has it done
store.py, <noun>_store.py      Redis and memory
api.py, <noun>_api.py, page.py, metrics.py   REST, pages, Prometheus
main.py                        composition root

Telling people, beside all that, from the same events under a consumer group of its own:

notification.py  which events are told, in which words; message.py: text and HTML; known.py: what earlier events told
alert_group.py   alerts told together; silence.py: what is muted
delivery.py      one message to one recipient: its states, when it is tried again
notifier.py      the contract of what sends; apprise_notifier.py: mail and every other service
notifier_book.py whom the platform tells, recipient.py: one of them
teller.py        events → deliveries; outbox.py: deliveries → sent; notifications.py puts them together

A new kind of message is an entry in TELLERS of notification.py.
A new thing to measure is a Metric in rule.py and its Reading in watch.py.
"""
