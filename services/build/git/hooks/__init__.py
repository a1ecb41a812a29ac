"""Holds the script of git's hooks. `receive.py` runs outside the service, by a plain Python, so it imports the standard
library alone. Imported by `git.push_socket`, which copies it."""
