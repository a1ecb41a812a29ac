"""Controls Envoy and rollouts: the only writer of routes, and the loops that call it. May import `routes`, `envoy` and
`counting`. Imported by `certificates`, `api`, `metrics` and `main`.
"""
