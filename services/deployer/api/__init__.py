"""Serves the REST API of the deployer.

May import every other package of the deployer, but from `drivers` only the port. Imported by `main` alone.
"""
