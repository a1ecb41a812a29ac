"""Divides the files that the machine lets Envoy open, and keeps disk space for the proxy's own files.

May import no other package of the proxy. Imported by `envoy`, `control` and `main`.
"""
