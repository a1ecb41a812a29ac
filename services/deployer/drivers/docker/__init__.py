"""Runs instances as containers of a Docker Engine. In the deployer, only this package imports `docker`.

May import shared and the files of `drivers`. Imported by `main` and `shutdown`, for its driver only when it is used.
"""
