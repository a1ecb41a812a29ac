"""Serves the proxy's REST interface and HTML pages.

May import every other package of the proxy. Imported by `main` alone.
"""
