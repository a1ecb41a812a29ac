"""Measures what 1, 10, 100 and 400 apps cost: on one real stack, and in each service's own classes."""
