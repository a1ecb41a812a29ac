"""The domain of the proxy: routes of apps, their endpoints, rollouts, and their storage.

Imports no other package of the proxy. Imported by `envoy`, `traffic`, `control`, `api` and `main`.
"""
