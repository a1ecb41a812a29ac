"""Monitor: watches instances and canaries, and has a failing canary aborted.

An alert goes inactive → pending → firing → resolved | gone. It is about one release: gone means that its release's
rollout ended. Decisions are made from memory; Redis is written behind, so that an abort does not wait for it.

sample.py       counters of an instance → CPU and memory
traffic.py      counters of a rollout → share of errors, over a window
rule.py         what is measured, from when on it is bad
alert.py        the states of an alert, and of the abort that it asks for
sample_book.py  what is known of instances; alert_book.py: rules and alerts
loops.py        sampling, watching canaries, aborting, following events
store.py        Redis and memory
api.py          REST
main.py         composition root

Telling people, beside all that, from the same events under a consumer group of its own:

notification.py  which events are told, in which words; message.py: text and HTML; known.py: what earlier events told
alert_group.py   alerts told together; silence.py: what is muted
delivery.py      one message to one recipient: its states, when it is tried again
notifier.py      the contract of what sends; apprise_notifier.py: mail and every other service
notifier_book.py whom the platform tells, recipient.py: one of them
teller.py        events → deliveries; outbox.py: deliveries → sent; notifications.py puts them together
*_store.py       Redis and memory; notification_api.py: REST

A new kind of message is an entry in TELLERS of notification.py.

A new thing to measure is a Metric in rule.py and its Reading in loops.py, Watch._look.
"""
