"""Computes the wait before a retry."""


def backoff_s(failures: int, *, first_s: float, longest_s: float, factor: float = 2.0) -> float:
    """Returns the seconds to wait after `failures` (1 or more) failures in a row: `first_s`, multiplied by `factor` for
    each failure after the first, at most `longest_s`.
    """
    return min(longest_s, first_s * factor ** min(failures - 1, 100))  # 2**1024 is too large for a float
