"""Stops running work on request."""

import asyncio

Stop = asyncio.Event


class Stopped(Exception):
    """Raised by work that was stopped on request, after all processes that it had started have ended."""
