"""Retention: which files of ended builds expire, and garbage collection on the engine and in repositories."""
