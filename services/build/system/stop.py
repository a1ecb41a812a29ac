"""Stops running work on request."""

import asyncio

Stop = asyncio.Event


class Stopped(Exception):
    """Reports that work was stopped on request, and that everything it started has ended."""
