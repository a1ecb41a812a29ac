"""The wait before a retry grows up to its limit."""

from shared.runtime.backoff import backoff_s


def test_each_wait_is_a_multiple_of_the_one_before_up_to_the_longest() -> None:
    assert [backoff_s(failures, first_s=2, longest_s=10) for failures in range(1, 5)] == [2, 4, 8, 10]
    assert [backoff_s(failures, first_s=1, longest_s=100, factor=5) for failures in (1, 2, 3)] == [1, 5, 25]


def test_a_year_of_failures_overflows_nothing() -> None:
    assert backoff_s(10**6, first_s=0.05, longest_s=5) == 5
