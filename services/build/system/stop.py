"""Stops running work on request."""

import asyncio

Stop = asyncio.Event


class Stopped(Exception):
    """Reports that work was stopped on request and that all its processes have ended."""
