"""Runs instances as processes of this machine, with memory limits by control groups or a guard loop.

May import shared and the files of `drivers`. Imported by `main` and `shutdown`.
"""
