"""Counts the requests of visitors from Envoy's access log, for each app, separately for production and the canary. May
import `routes` and `envoy`. Imported by `control`, `api`, `metrics` and `main`.
"""
