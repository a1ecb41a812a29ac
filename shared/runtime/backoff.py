"""Computes the wait before a retry."""


def backoff_s(failures: int, *, first_s: float, longest_s: float, factor: float = 2.0) -> float:
    """Returns the seconds to wait after `failures` (1 or more) in a row: `first_s` after the first, `factor` times the
    previous wait after each further one, never more than `longest_s`.
    """
    return min(longest_s, first_s * factor ** min(failures - 1, 100))  # a float holds no 2**1024
