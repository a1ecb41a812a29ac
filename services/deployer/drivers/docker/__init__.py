"""Runs instances as containers of a Docker Engine. No other package of the deployer imports `docker`. May import
`shared` and the files of `drivers`. Imported by `main` and `shutdown`, and only if this driver is in use.
"""
