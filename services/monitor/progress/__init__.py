"""Takes rollouts from step to step; each step gives the canary a share of visitors for a time. When that is over,
decides by the canary analysis whether the step ends, and tells the proxy.

May import `analysis` (its margins). Imported by `checks` and `main`.
"""
