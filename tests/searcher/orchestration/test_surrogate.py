"""The Gaussian process against textbook formulas."""

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.spatial.distance import cdist

from searcher.orchestration.trials import surrogate
from searcher.orchestration.trials.surrogate import fitted, given

GROUPS = np.array([0, 1, 1, 1])
THETA = np.array([math.log(0.4), math.log(0.8), math.log(1.3), math.log(0.01)])


def data(num: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.random((num, 1)), math.sqrt(0.5) * np.eye(3)[rng.integers(0, 3, num)]], axis=1
    )
    return points, rng.normal(size=num), rng.random(num) * 0.3


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matern 5/2, Rasmussen and Williams (2006), equation 4.17; a choice that differs is one length apart."""
    lengths = np.exp(THETA[:2])[GROUPS]
    r = cdist(a / lengths, b / lengths)
    return 1.3 * (1 + math.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-math.sqrt(5) * r)


def test_mean_and_deviation_are_those_of_the_textbook():
    points, values, spreads = data()
    new = data(20)[0][12:]
    inverse = np.linalg.inv(kernel(points, points) + np.diag(0.01 + spreads**2))
    cross = kernel(new, points)
    mean, std = given(points, values, spreads, GROUPS, THETA).predict(new)
    np.testing.assert_allclose(mean, cross @ inverse @ values, atol=1e-4)
    np.testing.assert_allclose(std**2, 1.3 - np.einsum("mn,nk,mk->m", cross, inverse, cross), atol=1e-4)


def test_the_gradient_of_the_fit_is_that_of_differences():
    points, values, spreads = data()
    squares = np.stack(
        [cdist(points[:, n == GROUPS], points[:, n == GROUPS], "sqeuclidean") for n in range(2)]
    )

    def density(theta: np.ndarray) -> float:
        return surrogate._negative_log_posterior(theta, squares, values, spreads**2)[0]

    def gradient(theta: np.ndarray) -> np.ndarray:
        return surrogate._negative_log_posterior(theta, squares, values, spreads**2)[1]

    assert check_grad(density, gradient, THETA) < 1e-4 * np.linalg.norm(gradient(THETA))


def test_a_parameter_that_does_not_matter_gets_the_longer_length():
    rng = np.random.default_rng(1)
    points = rng.random((40, 2))
    theta = fitted(points, np.sin(6 * points[:, 0]), np.zeros(40), np.array([0, 1]))
    assert theta[1] > theta[0] + 1


def test_equal_points_with_other_values_are_no_crash():
    points = np.full((5, 1), 0.5)
    groups = np.array([0])
    theta = fitted(points, np.array([0.0, 1.0, -1.0, 2.0, -2.0]), np.zeros(5), groups)
    mean, std = given(points, np.array([0.0, 1.0, -1.0, 2.0, -2.0]), np.zeros(5), groups, theta).predict(
        points
    )
    assert mean == pytest.approx(np.zeros(5), abs=1e-6)
    assert np.isfinite(std).all()
