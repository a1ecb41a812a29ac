"""Defines `Stop`, an event that is set to end running work, and the exception that the work then raises."""

import asyncio

Stop = asyncio.Event


class Stopped(Exception):
    """Reports that work was stopped on request. All processes that it had started have ended by then."""
