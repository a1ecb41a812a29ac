"""Computes the evidence for each kind of harm of a canary. A lane begins with a capital of 1 and bets in each window, a
few seconds of requests, that the canary does the harm; the capital is the evidence.

Imports nothing of the monitor. Imported by `analysis`. In import order: margins; histogram; lane; error_lane,
latency_lane.
"""
