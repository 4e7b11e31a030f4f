"""Timing in turn, and the statistics of what was timed."""

import numpy as np
import pytest

from benchmarks.measure import Spread, Timing, alternate, speed_ratio, timed


def test_tasks_run_in_turn_and_warmups_do_not_count():
    order = []

    def task(name):
        def run():
            order.append(name)
            return Timing(float(len(order)), 0.0)

        return run

    told = []
    timings = alternate({"a": task("a"), "b": task("b")}, 2, warmups=1, progress=told.append)
    assert order == ["a", "b"] * 3
    assert [t.seconds for t in timings["a"]] == [3.0, 5.0]
    assert [t.seconds for t in timings["b"]] == [4.0, 6.0]
    assert len(told) == 3


def test_spread_is_median_and_quartiles():
    # By hand: quartiles of 1 to 5 are the second and the fourth.
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(3.0, 2.0, 4.0, 5)


def test_ratio_is_that_of_medians_and_its_spread_that_of_rounds():
    own, other = [1.0, 2.0, 10.0], [3.0, 6.0, 40.0]
    # By round 3, 3 and 4 times as fast; medians 2 and 6.
    assert speed_ratio(own, other) == Spread(3.0, 3.0, 3.5, 3)


def test_ratio_is_free_of_what_slows_both():
    random = np.random.default_rng(0)
    slow = random.uniform(1, 10, 9)
    ratio = speed_ratio(list(slow), list(2.5 * slow))
    assert ratio.low == pytest.approx(2.5)
    assert ratio.high == pytest.approx(2.5)


def test_timed_has_the_value_and_tells_waiting_from_work():
    import time

    waited = timed(lambda: time.sleep(0.05) or "slept")
    assert waited.value == "slept"
    assert waited.seconds >= 0.05
    assert waited.cpu_seconds < 0.04
