"""Has the artifacts of live releases built again from which no instance can be started.

May import `drivers`, `plan`, `releases` and `store`. Imported by `main`.
"""
