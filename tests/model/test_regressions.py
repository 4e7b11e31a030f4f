"""Regressions against scikit-learn alone; labels that weigh nothing; files."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.regressions import MaskedRegressions, PseudoLabelledRows, fit_regressions


def rows(seed=0, count=120):
    """Features of different scales; three classes, of which about half the labels are known."""
    random = np.random.default_rng(seed)
    features = random.normal(3, 1, (count, 5)) * [1, 10, 0.1, 1, 1]
    signal = features[:, :3] / [1, 10, 0.1] - 3
    target = (signal + random.normal(0, 0.7, signal.shape) > 0.5).astype(np.float32)
    weights = random.choice([0, 0.3, 1], target.shape, p=[0.5, 0.2, 0.3]).astype(np.float32)
    return features.astype(np.float32), target, weights


def test_each_class_is_scikit_learns_own_regression():
    features, target, weights = rows()
    found = fit_regressions(features, target, weights, 0.1)
    others = np.random.default_rng(1).normal(3, 2, (2, 7, 5)).astype(np.float32)
    probability = found.probability(others).numpy()
    assert probability.shape == (2, 7, 3)
    standard = StandardScaler().fit(features.astype(float))
    for number in range(3):
        known = weights[:, number] > 0
        regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
        pipeline = make_pipeline(standard, regression)
        regression.fit(
            standard.transform(features[known].astype(float)),
            target[known, number],
            sample_weight=weights[known, number],
        )
        expected = pipeline.predict_proba(others.reshape(-1, 5))[:, 1]
        np.testing.assert_allclose(probability[..., number].ravel(), expected, atol=1e-6)


def test_labels_without_weight_do_not_enter():
    features, target, weights = rows()
    spoilt = np.where(weights > 0, target, 1 - target)
    assert (spoilt != target).mean() > 0.4
    one, other = (fit_regressions(features, t, weights, 1.0) for t in (target, spoilt))
    np.testing.assert_array_equal(one.coefficients, other.coefficients)
    np.testing.assert_array_equal(one.intercepts, other.intercepts)


@pytest.mark.parametrize("weight", [0.5, 0.001])
def test_soft_rows_count_by_their_cross_entropy(weight):
    """Against SciPy's minimum of the loss as it is defined, with one label for every row."""
    features, target, weights = rows()
    random = np.random.default_rng(3)
    soft = PseudoLabelledRows(
        features=random.normal(3, 2, (80, 5)).astype(np.float32),
        probability=random.choice([0.0, 0.2, 0.9, 1.0], (80, 3)).astype(np.float32),
        weights=random.choice([0.0, weight], (80, 3)).astype(np.float32),
    )
    c = 0.1
    found = fit_regressions(features, target, weights, c, soft)
    standard = StandardScaler().fit(features.astype(float))
    x = np.concatenate([standard.transform(f.astype(float)) for f in (features, soft.features)])
    for number in range(3):
        own, y = weights[:, number].astype(float), target[:, number]
        for label in (0, 1):
            own[y == label] *= weights[:, number].sum() / 2 / weights[y == label, number].sum()
        weight = np.concatenate([own, soft.weights[:, number]])
        wanted = np.concatenate([y, soft.probability[:, number]])

        def loss(v, weight=weight, wanted=wanted):
            z = x @ v[:5] + v[5]
            return (weight * (np.logaddexp(0, z) - wanted * z)).sum() + v[:5] @ v[:5] / 2 / c

        expected = minimize(loss, np.zeros(6), tol=1e-9).x
        got = [*found.coefficients[:, number], found.intercepts[number]]
        np.testing.assert_allclose(got, expected, atol=2e-3)


def test_soft_rows_do_not_make_a_class_that_no_row_has():
    features, target, weights = rows()
    target[:, 0] = 0
    taught = PseudoLabelledRows(features, np.ones_like(target), np.ones_like(target))
    assert fit_regressions(features, target, weights, 1.0, taught).fitted.tolist() == [0, 1, 1]


def test_a_class_with_nothing_to_tell_apart_scores_0():
    features, target, weights = rows()
    target[:, 0] = 0
    weights[target[:, 1] == 0, 1] = 0
    found = fit_regressions(features, target, weights, 1.0)
    assert found.fitted.tolist() == [False, False, True]
    probability = found.probability(features).numpy()
    assert (probability[:, :2] == 0).all()
    assert (probability[:, 2] > 0).all()


def test_what_is_saved_is_loaded(tmp_path):
    found = fit_regressions(*rows(), 1.0)
    path = tmp_path / "fold0" / "head.npz"
    found.save(path)
    loaded = MaskedRegressions.load(path)
    features = rows(1)[0]
    np.testing.assert_array_equal(loaded.probability(features), found.probability(features))
    content = path.read_bytes()
    for damaged in (b"", b"no archive", content[:100]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be loaded"):
            MaskedRegressions.load(path)
    with pytest.raises(UserError, match="cannot be loaded"):
        MaskedRegressions.load(tmp_path / "none.npz")
