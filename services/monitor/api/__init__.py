"""Serves the REST API and the HTML pages of the monitor.

May import every other package of the monitor. Imported by `main` alone.
"""
