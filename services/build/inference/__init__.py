"""Infers how a commit is built and run from the files that it holds; processes and containers use the same inference.
Pure: no code of the commit is imported or run. `infer.py` is the entry. May import `shared` alone. Imported by
`executors` and `manifest`.
"""
