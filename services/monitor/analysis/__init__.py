"""Judges a canary by comparing its requests with production's over the same time: betting lanes, effects, bounds.

All of it is pure: no clock, no input, no output. Imports no other package of the monitor. In import order:

margins      what counts as harm, and how fast evidence may grow
window       the input: both tracks' requests in a few seconds
histogram    latency buckets: quantiles, and a histogram as it were if all were slower
lane         the capital of one lane
error_lane, latency_lane    what the bets of a lane win and lose in a window
strata       sums over the rollout, in strata of 20 s and by step
bounds, effects             how large a harm is, and how large it may be
verdict      the output
explanation  the sentence that people read
judge        all of it together, for one rollout
"""
