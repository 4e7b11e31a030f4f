"""Waits between attempts, and which failures are tried again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfcx_tf.scoring.served import retries
from rfcx_tf.scoring.served.retries import RequestError, RetryRules, call_with_retries


@given(attempt=st.integers(0, 5000), asked_s=st.none() | st.floats(0, 1e6))
def test_waits_grow_up_to_a_limit(attempt, asked_s):
    rules = RetryRules(first_wait_s=0.5, longest_wait_s=30)
    full_s = 0.5 * 2.0 ** min(attempt, 100)
    wait_s = rules.wait_s(attempt, asked_s)
    assert min(30, full_s / 2) <= wait_s <= 30
    assert wait_s <= max(full_s, asked_s or 0)
    assert wait_s >= min(30, asked_s or 0)


def test_waits_differ():
    rules = RetryRules()
    assert len({rules.wait_s(0) for _ in range(20)}) > 10


@pytest.fixture
def waits(monkeypatch):
    """The waits that were asked for; none is waited."""
    asked = []

    async def sleep(seconds):
        asked.append(seconds)

    monkeypatch.setattr(retries.asyncio, "sleep", sleep)
    return asked


def call_through(failures, rules):
    """The outcome of a call that fails so, then succeeds, and how often it was made."""
    made = 0

    async def call():
        nonlocal made
        made += 1
        if made <= len(failures):
            raise failures[made - 1]
        return "reply"

    try:
        return asyncio.run(call_with_retries(call, rules)), made
    except RequestError as error:
        return str(error), made


def test_passing_failures_are_tried_again(waits):
    busy = RequestError("busy.", retryable=True)
    assert call_through([busy] * 3, RetryRules(retries=3)) == ("reply", 4)
    assert len(waits) == 3
    assert waits[1] >= 0.5 and waits[2] >= 1
    asked = RequestError("busy.", retryable=True, wait_s=7.0)
    assert call_through([asked], RetryRules()) == ("reply", 2)
    assert waits[3] == 7.0


def test_failures_that_last_are_given_up(waits):
    busy = RequestError("busy.", retryable=True)
    assert call_through([busy] * 9, RetryRules(retries=2)) == ("busy. Tried 3 times.", 3)
    assert call_through([busy], RetryRules(retries=0)) == ("busy.", 1)


def test_a_wrong_request_is_not_repeated(waits):
    assert call_through([RequestError("wrong\n input.")], RetryRules()) == ("wrong input.", 1)
    assert waits == []
