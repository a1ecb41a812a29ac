"""Time-outs of all apps together blame no app."""

from services.deployer.reconcile.common_stall import CommonStall


def test_one_app_alone_has_nobody_to_be_late_with() -> None:
    stall = CommonStall()
    stall.timed_out("notes", 0.9)
    assert not stall.covers("notes", 0.9, 1.8)
    assert stall.problem(1.8) is None


def test_apps_that_time_out_together_are_not_blamed_until_half_a_minute_is_over() -> None:
    stall = CommonStall()
    stall.timed_out("shop", 0.5)
    assert stall.covers("notes", 0, 0.9)
    assert stall.problem(0.9) == "no instance of any app has answered a probe in time for 1 s"
    for second in range(1, 40):
        stall.timed_out("shop", second)
        assert stall.covers("notes", second - 0.9, second) is (second < 30)


def test_an_answer_of_any_instance_shows_that_the_machine_is_well() -> None:
    stall = CommonStall()
    stall.timed_out("shop", 0.5)
    stall.answered("blog", 0.6)
    assert not stall.covers("notes", 0, 0.9)
    stall.timed_out("shop", 1.4)
    assert stall.covers("notes", 1, 1.9)
    stall.answered("notes", 2)
    assert stall.problem(2) is None


def test_what_timed_out_long_before_or_has_answered_since_is_no_evidence() -> None:
    stall = CommonStall()
    stall.timed_out("shop", 1)
    assert stall.covers("notes", 1.9, 2.8)  # they take turns: shop's next probe is late at 2.9 or so
    assert not stall.covers("notes", 2.1, 3)
    stall.timed_out("shop", 3)
    stall.answered("shop", 3.5)
    assert not stall.covers("notes", 3.6, 4.5)


def test_the_problem_ends_when_no_probe_is_late_any_more() -> None:
    stall = CommonStall()
    stall.timed_out("shop", 0.5)
    assert stall.covers("notes", 0, 0.9)
    assert stall.problem(31) is None
