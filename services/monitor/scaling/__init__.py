"""Scales memory limits: collects the input of a decision, decides by a policy, and applies the decision. May import
`samples`. Imported by `api`, `main` and `loops`.
"""
