"""Planning without I/O: observed facts become a list of actions, actions become changes of stored records.

May import `releases` and the drivers' port. Imported by `store`, `reconcile` and `main`.
"""
