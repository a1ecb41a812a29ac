"""Controls Envoy and rollouts: has the only writer of routes, and the background loops that use it. May import
`routes`, `envoy` and `counting`. Imported by `certificates`, `api`, `metrics` and `main`.
"""
