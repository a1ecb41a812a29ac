"""Runs instances as processes of this machine. Memory limits are enforced by control groups or, where these are not
available, by a loop that measures (the guard). May import `shared` and the files of `drivers`. Imported by `main` and
`shutdown`.
"""
