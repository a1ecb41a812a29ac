"""Defines how running work is stopped on request."""

import asyncio

Stop = asyncio.Event


class Stopped(Exception):
    """Reports that work was stopped on request. All processes that it had started have ended by then."""
