"""Takes rollouts from step to step: asks the analysis when a step's time is over, and tells the proxy.

May import `analysis` (its margins). Imported by `checks` and `main`.
"""
