"""Delivers messages: groups alerts, turns events into deliveries, sends and retries deliveries. Sends the message that
Redis does not answer directly, since it cannot be stored. May import `notify` and `alerts`. Imported by `api` and
`main`.
"""
