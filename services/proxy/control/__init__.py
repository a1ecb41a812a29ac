"""Control of Envoy and of rollouts: the single writer of routes, and the loops around it.

May import `routes`, `envoy` and `traffic`. Imported by `api`, `metrics` and `main`.
"""
