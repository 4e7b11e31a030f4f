"""Work ahead: in order, only so far, and stopped when its reader stops."""

import threading

import pytest

from rfcx_tf.core.threads import map_ahead


def test_results_come_in_order_whatever_finishes_first():
    second_is_done = threading.Event()

    def work(number):
        if number == 0:
            assert second_is_done.wait(10), "the second item is not worked on beside the first"
        if number == 1:
            second_is_done.set()
        return number * number

    assert list(map_ahead(work, range(7), workers=2)) == [0, 1, 4, 9, 16, 25, 36]


def test_items_are_taken_only_a_little_ahead_of_the_reader():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number, items(), workers=3)
    assert taken == []
    for read in range(10):
        assert next(results) == read
        assert len(taken) <= read + 1 + 2 * 3
    results.close()
    assert len(taken) < 20


def test_nothing_gives_nothing():
    assert list(map_ahead(str, [], workers=2)) == []


def test_an_error_reaches_the_reader_in_its_place_and_ends_the_work():
    done = []

    def work(number):
        if number == 2:
            raise KeyError("two")
        done.append(number)
        return number

    results = map_ahead(work, range(1000), workers=1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert len(done) < 10


def test_what_has_not_begun_when_the_reader_stops_is_never_done():
    done, gate = [], threading.Event()

    def work(number):
        if number == 1:
            gate.wait(10)
        done.append(number)
        return number

    results = map_ahead(work, range(100), workers=1)
    assert next(results) == 0
    threading.Timer(0.2, gate.set).start()
    results.close()
    assert len(done) <= 3
