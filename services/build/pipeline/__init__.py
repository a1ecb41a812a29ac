"""One run of one build: checkout, steps, gates, artifact, deploy. `run.py` reads from top to bottom."""
