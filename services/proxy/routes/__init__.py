"""Defines routes, endpoints and rollouts of apps, and stores them. Imports no other package of the proxy. Imported by
`envoy`, `counting`, `control`, `api` and `main`.
"""
