"""Serves REST and HTML pages of the build service.

May import every other package of the service. Imported by `main` alone.
"""
