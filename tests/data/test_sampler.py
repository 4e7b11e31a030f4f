"""Draws: ratios and fairness that hold in every prefix, from the draw's number alone."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.data.sampler import BalancedSampler

# Classes of very different sizes; FP rows are 100 and more.
TP_CLASSES = np.array([4] * 2 + [7] * 11 + [9] * 5)
FP_CLASSES = np.array([4] * 9 + [9] * 3)
TP_ROWS = np.arange(len(TP_CLASSES))
FP_ROWS = 100 + np.arange(len(FP_CLASSES))


def make_sampler(
    tp=(TP_ROWS, TP_CLASSES), fp=(FP_ROWS, FP_CLASSES), tp_fraction=0.5, balance=True, seed=0
):
    return BalancedSampler(*tp, *fp, tp_fraction=tp_fraction, balance_classes=balance, seed=seed)


def drawn(sampler, count):
    return [sampler.draw(number)[0] for number in range(count)]


def class_of(row):
    return TP_CLASSES[row] if row < 100 else FP_CLASSES[row - 100]


def runs_of(values, size):
    """Consecutive full pieces of a list."""
    return [values[i : i + size] for i in range(0, len(values) - size + 1, size)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 16), st.integers(1, 200))
def test_every_prefix_holds_its_share_of_tp(sixteenths, count):
    sampler = make_sampler(tp_fraction=sixteenths / 16)
    tp = sum(row < 100 for row in drawn(sampler, count))
    assert tp == math.floor(count * Fraction(sixteenths, 16))


def test_classes_are_drawn_equally_in_every_prefix():
    rows = drawn(make_sampler(tp_fraction=0.75), 400)
    for kind, classes in (
        (lambda row: row < 100, TP_CLASSES),
        (lambda row: row >= 100, FP_CLASSES),
    ):
        own = [class_of(row) for row in rows if kind(row)]
        for prefix in range(1, len(own) + 1):
            counts = Counter(own[:prefix])
            per_class = [counts[c] for c in set(classes)]
            assert max(per_class) - min(per_class) <= 1


def test_within_a_class_no_row_returns_before_all_had_their_turn():
    rows = drawn(make_sampler(), 600)
    for kind_rows, classes in ((TP_ROWS, TP_CLASSES), (FP_ROWS, FP_CLASSES)):
        for species in set(classes):
            members = set(kind_rows[classes == species])
            own = [row for row in rows if row in members]
            passes = runs_of(own, len(members))
            assert len(passes) > 2
            assert all(set(one) == members for one in passes)
            if len(members) > 4:
                assert passes[0] != passes[1], "a pass is not shuffled anew"


def test_without_balance_rows_are_drawn_equally_whatever_their_class():
    rows = drawn(make_sampler(balance=False, tp_fraction=1.0), 5 * len(TP_ROWS))
    assert all(set(one) == set(TP_ROWS) for one in runs_of(rows, len(TP_ROWS)))


def test_a_draw_depends_on_its_number_and_the_seed_alone():
    numbers = [*range(50), 10**6, 2**31 + 5, 2**40]
    forwards = [make_sampler().draw(number) for number in numbers]
    sampler = make_sampler()
    backwards = [sampler.draw(number) for number in reversed(numbers)]
    assert backwards[::-1] == forwards
    other = make_sampler(seed=1)
    assert [other.draw(number) for number in numbers] != forwards


def test_partners_of_fp_are_of_its_class_and_those_of_tp_any_tp():
    sampler = make_sampler()
    draws = [sampler.draw(number) for number in range(2000)]
    of_tp = {}
    for row, partner in draws:
        if row >= 100:
            assert partner >= 100
            assert class_of(partner) == class_of(row)
        else:
            assert partner < 100
            of_tp.setdefault(class_of(row), Counter())[class_of(partner)] += 1
    # About 1000 TP draws, a ninth for every pair of classes: 111 +- 10.
    assert all(60 < of_tp[a][b] < 160 for a in (4, 7, 9) for b in (4, 7, 9))
    partners = Counter(partner for _, partner in draws)
    assert partners.keys() == {*TP_ROWS, *FP_ROWS}


def test_partners_of_fp_are_of_its_class_also_without_balance():
    sampler = make_sampler(tp_fraction=0.0, balance=False)
    for number in range(200):
        row, partner = sampler.draw(number)
        assert class_of(row) == class_of(partner)
        assert row != partner


def test_one_kind_alone_gives_all_draws():
    none = (np.array([], int), np.array([], int))
    assert set(drawn(make_sampler(fp=none), 60)) == set(TP_ROWS)
    assert set(drawn(make_sampler(tp=none, tp_fraction=1.0), 60)) == set(FP_ROWS)
    with pytest.raises(ValueError, match="at least one row"):
        make_sampler(tp=none, fp=none)
