"""Judges a canary by comparing its requests with production's over the same time.

All of it is pure: no clock, no input, no output. Imports no other package of the monitor. In import order:

lanes/                   margins, and the evidence for each kind of harm: a lane bets that the canary does it
comparison               tests and differences that compare within short times only
strata, sections         sums over the rollout, in strata (slices) of 20 s and by step; its newest part
bounds, effects          how large a harm may be, and how large it was measured
window, verdict          the input and the output
state, visitors          what a judge remembers; whether enough visitors had errors
gate_tests               what is tested once, at the end
explanation, report      the sentence that people read; the verdict
judge                    all of it together, for one rollout
"""
