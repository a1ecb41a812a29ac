"""Measures for `make bench-overload` whether idle apps are left alone while other programs want all of the CPU.

On a stack of its own, tiny apps run as processes. Then programs that only compute are started for some minutes. Exit 1
if an instance was replaced or called unhealthy, if a release failed, or if an app that is really frozen in that time is
not found. May import `stack` and `shared`. Imported by nothing.
"""
