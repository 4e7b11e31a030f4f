"""Draws: ratios and fairness that hold in every prefix, from the draw's number alone."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.shards.sampler import (
    BalancedSampler,
    PseudoSampler,
    WeightedSampler,
    is_mixed_with_window,
    split_draw,
)

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


@settings(max_examples=30)
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


def test_draws_are_those_that_they_have_been():
    """Recorded before there were pseudo-labels; a run that goes on must see the same rows."""
    numbers = [*range(8), 10**6, 2**40]
    sampler = make_sampler(seed=3)
    assert [sampler.draw(number) for number in numbers] == [
        *((110, 109), (15, 17), (100, 106), (8, 3), (109, 110), (1, 5), (107, 104), (0, 1)),
        *((110, 111), (111, 109)),
    ]
    sampler = make_sampler(seed=3, tp_fraction=0.3, balance=False)
    assert [sampler.draw(number) for number in numbers] == [
        *((107, 102), (104, 107), (111, 110), (15, 6), (103, 102), (110, 109), (12, 9)),
        *((100, 101), (103, 106), (8, 1)),
    ]
    backgrounds = [sampler.draw_background(number, np.arange(50, 90)) for number in range(8)]
    assert backgrounds == [50, 81, 61, 60, 84, 69, 62, 52]


@settings(max_examples=30)
@given(st.integers(0, 16), st.integers(0, 200))
def test_both_sides_of_a_split_are_numbered_without_gaps(sixteenths, count):
    sides = [split_draw(number, sixteenths / 16) for number in range(count)]
    first = [number for is_first, number in sides if is_first]
    second = [number for is_first, number in sides if not is_first]
    assert first == list(range(math.floor(count * Fraction(sixteenths, 16))))
    assert second == list(range(count - len(first)))


PSEUDO_SPECIES = np.array([-1] * 40 + [4] * 3 + [9] * 8 + [7])
PSEUDO_ROWS = 200 + np.arange(len(PSEUDO_SPECIES))


def test_background_is_drawn_as_often_as_a_species_and_all_its_rows_in_turn():
    rows = drawn(PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=0), 4 * 120)
    for prefix in range(1, len(rows) + 1, 7):
        counts = Counter(PSEUDO_SPECIES[row - 200] for row in rows[:prefix])
        assert max(counts.values()) - min(counts[s] for s in (-1, 4, 7, 9)) <= 1
    for species in (-1, 4, 9):
        members = set(PSEUDO_ROWS[species == PSEUDO_SPECIES])
        passes = runs_of([row for row in rows if row in members], len(members))
        assert len(passes) > 2
        assert all(set(one) == members for one in passes)


def test_partners_of_pseudo_rows_are_others_of_any_group():
    sampler = PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=0)
    draws = [sampler.draw(number) for number in range(1600)]
    assert all(row != partner for row, partner in draws)
    groups = Counter(PSEUDO_SPECIES[partner - 200] for _, partner in draws)
    # 400 +- 17 of each, but for the lone row of species 7, which is not its own partner.
    assert all(330 < groups[species] < 530 for species in (-1, 4, 9))
    assert 220 < groups[7] < 380
    assert {partner for _, partner in draws} == set(PSEUDO_ROWS)
    assert PseudoSampler(np.array([5]), np.array([2]), seed=0).draw(3) == (5, 5)


def test_a_pseudo_draw_depends_on_its_number_and_the_seed_alone():
    numbers = [*range(40), 2**40]
    forwards = [
        PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=1).draw(number) for number in numbers
    ]
    sampler = PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=1)
    assert [sampler.draw(number) for number in reversed(numbers)][::-1] == forwards
    other = PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=2)
    assert [other.draw(number) for number in numbers] != forwards


def test_windows_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0, 0.5, 1, 2.5, 0, 6, 0])
    sampler = WeightedSampler(np.arange(50, 57), weights, seed=0)
    draws = [(*sampler.draw(number), sampler.draw_into_row(number)) for number in range(4000)]
    for drawn_rows in zip(*draws, strict=True):
        counts = np.array([Counter(drawn_rows)[row] for row in range(50, 57)])
        # Binomial: 4 standard deviations of the share of 0.6 are 0.031.
        np.testing.assert_allclose(counts / 4000, weights / 10, atol=0.031)
        assert (counts[weights == 0] == 0).all()
    assert Counter(row == partner for row, partner, _ in draws)[False] > 1500


@pytest.mark.parametrize("kind", ["weighted", "even"])
def test_a_window_for_a_mix_depends_on_the_draws_number_and_the_seed_alone(kind):
    def make(seed):
        if kind == "even":
            return PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=seed)
        return WeightedSampler(PSEUDO_ROWS, np.arange(len(PSEUDO_ROWS)), seed=seed)

    numbers = [*range(40), 2**40]
    sampler = make(1)
    forwards = [(sampler.draw(n), sampler.draw_into_row(n)) for n in numbers]
    again = make(1)
    assert [(again.draw(n), again.draw_into_row(n)) for n in numbers[::-1]][::-1] == forwards
    other = make(2)
    assert [(other.draw(n), other.draw_into_row(n)) for n in numbers] != forwards


def test_windows_for_mixes_are_of_any_group():
    sampler = PseudoSampler(PSEUDO_ROWS, PSEUDO_SPECIES, seed=0)
    drawn_rows = [sampler.draw_into_row(number) for number in range(1600)]
    groups = Counter(PSEUDO_SPECIES[row - 200] for row in drawn_rows)
    assert all(330 < groups[species] < 470 for species in (-1, 4, 7, 9))


def test_which_rows_are_mixed_with_windows_does_not_go_by_their_kind():
    assert not any(is_mixed_with_window(number, 0.0, 0) for number in range(50))
    assert all(is_mixed_with_window(number, 1.0, 0) for number in range(50))
    # Four standard deviations of a quarter of 1000 are 55.
    for rest in range(4):
        mixed = sum(is_mixed_with_window(number, 0.25, 3) for number in range(rest, 4000, 4))
        assert abs(mixed - 250) < 55
