"""Reuse of earlier results: the key under which a build passed, and the store of passed builds."""
