"""Measures on a real stack how long a bad canary has visitors, and how long an abort takes."""
