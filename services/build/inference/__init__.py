"""Infers how a commit is built and run from the files that it holds, the same for processes and for containers. Pure:
no code of the commit is imported or run. Read `infer.py` first.

May import `shared` alone. Imported by `executors` and `manifest`.
"""
