"""Holds the script of git's hooks. `receive.py` runs outside the service, without installed packages, so it imports
only the standard library. Imported by `git.push_socket`, which copies it.
"""
