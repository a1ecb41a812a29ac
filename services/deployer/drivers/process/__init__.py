"""Runs instances as processes of this machine, with control groups or a guard as memory limits.

May import shared and the files of `drivers`. Imported by `main` and `shutdown`.
"""
