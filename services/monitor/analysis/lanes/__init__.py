"""Computes the evidence for each kind of harm: lanes whose capital grows by bets that the canary does it.

Imports nothing of the monitor. Imported by `analysis`. In import order: margins; histogram; lane; error_lane,
latency_lane.
"""
