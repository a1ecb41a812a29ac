"""Scales memory limits: the input of a decision, the policy that decides, and the loop that applies it.

May import `samples`. Imported by `api`, `main` and `loops`.
"""
