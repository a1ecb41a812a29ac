"""Scheduling of builds, and the workers that run them."""
