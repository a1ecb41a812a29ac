"""Serves the REST interface and the HTML pages of the build service.

May import every other package of the service. Imported by `main` alone.
"""
