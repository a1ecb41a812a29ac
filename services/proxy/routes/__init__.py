"""Defines routes, endpoints and rollouts of apps, and stores them. Imports no other package of the proxy. Imported by
`envoy`, `traffic`, `control`, `api` and `main`.
"""
