"""Defines the domain of the proxy: routes, endpoints, rollouts, and their storage.

Imports no other package of the proxy. Imported by `envoy`, `traffic`, `control`, `api` and `main`.
"""
