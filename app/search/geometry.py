"""The one affine map that lays a query's keypoints on an image's, if there is one.

Each pair of keypoints has places, sizes and angles, and so proposes a similarity transform by
itself; the one that most others agree with is refined to an affine map by least squares (Philbin et
al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007). Nothing is
drawn at random, so the same images always give the same answer.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.pictures.registration import Matrix
from app.search.matching import Pairs

Mask = NDArray[np.bool_]

# How far a pair may lie from where the map puts it, in pixels at the size of the keypoints, or in
# those of the query, if they are larger in the image.
TOLERANCE = 3.0
# A proposal is rough, so more is allowed in counting who agrees with it.
ROUGH_TOLERANCE = 8.0
# A pair's own change of size and of angle may differ from the map's by a factor of 1.8 and 0.6 rad.
SIZE_TOLERANCE = 0.6
LEAST_COSINE = math.cos(0.6)
# At most this many proposals are compared with each other, and the best of them refined.
MOST_PROPOSALS = 150
REFINED = 6
LEAST_PAIRS = 4
# A map with so many places needs no comparison with others.
SURE_PLACES = 20
# Images are enlarged and reduced, and rarely stretched by more than this.
LARGEST_STRETCH = 1.6
SCALES = (0.08, 12.0)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A map from the query to the image.

    `matrix` is 2 x 3, in pixels at the size of the keypoints. `inliers` says which pairs agree with
    it; they are at `places` distinct places, counted in the image that has fewer.
    """

    matrix: Matrix
    inliers: Mask
    places: int


def fitted(pairs: Pairs) -> Fit | None:
    """Return the map that most pairs agree with; None if fewer than four agree with any."""
    if len(pairs) < LEAST_PAIRS:
        return None
    points = _Points.of(pairs)
    agree = points.agreement(min(len(pairs), MOST_PROPOSALS))
    votes = agree.sum(axis=1)
    best: Fit | None = None
    for proposal in np.argsort(-votes, kind="stable")[:REFINED]:
        if votes[proposal] < LEAST_PAIRS:
            break
        if best is not None and best.places >= min(int(votes[proposal]), SURE_PLACES):
            break
        fit = _refined(points, agree[proposal])
        if fit is not None and (best is None or fit.places > best.places):
            best = fit
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """The pairs' places as complex numbers, log ratios of sizes, and turns.

    `turn` are complex numbers of length 1, whose angle is that between the keypoints' directions.
    `rows` are the query's places, (n, 3): x, y, 1; `places` the image's, (n, 2).
    """

    query: NDArray[np.complex128]
    image: NDArray[np.complex128]
    growth: NDArray[np.float64]
    turn: NDArray[np.complex128]
    rows: NDArray[np.float64]
    places: NDArray[np.float64]

    @classmethod
    def of(cls, pairs: Pairs) -> "_Points":
        query, image = pairs.query, pairs.image
        q, t = pairs.of_query, pairs.of_image
        rows = np.ones((len(pairs), 3))
        rows[:, :2] = query.places[q]
        places = image.places[t].astype(np.float64)
        return cls(
            rows[:, 0] + 1j * rows[:, 1],
            places[:, 0] + 1j * places[:, 1],
            np.log(image.sizes[t] / query.sizes[q]).astype(np.float64),
            np.exp(1j * (image.angles[t] - query.angles[q])),
            rows,
            places,
        )

    def agreement(self, proposals: int) -> Mask:
        """Return which pairs agree roughly with the similarity transform of each of the first."""
        growth, turn = self.growth[:proposals, None], self.turn[:proposals, None]
        factor = np.exp(growth) * turn
        offset = self.image[:proposals, None] - factor * self.query[:proposals, None]
        off = factor * self.query + (offset - self.image)
        tolerance = ROUGH_TOLERANCE * np.maximum(1, np.exp(growth))
        agree = _squared(off) < tolerance**2
        agree &= np.abs(growth - self.growth) < 1.3 * SIZE_TOLERANCE
        agree &= (turn.conj() * self.turn).real > LEAST_COSINE
        return agree

    def agree_with(self, matrix: Matrix, scale: float, tolerance: float) -> Mask:
        """Return which pairs agree with an affine map of this scale."""
        off = self.rows @ matrix.T - self.places
        (a, b, _), (c, d, _) = matrix.tolist()
        turn = complex(a + d, b - c)
        agree = (off * off).sum(axis=1) < (tolerance * max(1.0, scale)) ** 2
        agree &= np.abs(self.growth - math.log(scale)) < SIZE_TOLERANCE
        agree &= (turn * self.turn).real > LEAST_COSINE * abs(turn)
        return agree


def _squared(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    return values.real**2 + values.imag**2


def _refined(points: _Points, inliers: Mask) -> Fit | None:
    matrix = _similarity(points, inliers)
    for tolerance in (2 * TOLERANCE, 1.5 * TOLERANCE, TOLERANCE, TOLERANCE):
        scale = believable_scale(matrix)
        if scale is None:
            return None
        inliers = points.agree_with(matrix, scale, tolerance)
        if inliers.sum() < LEAST_PAIRS:
            return None
        last, matrix = matrix, _affine(points, inliers)
    return Fit(last, inliers, _distinct_places(points, inliers))


def believable_scale(matrix: Matrix) -> float | None:
    """Return a map's scale; None if it mirrors, stretches or scales too much to be believed."""
    (a, b), (c, d) = matrix[:, :2]
    determinant = a * d - b * c
    if determinant <= 0:
        return None
    # The singular values' sum and product are those of a 2 x 2 matrix in closed form.
    scale = float(np.sqrt(determinant))
    mean = float(a * a + b * b + c * c + d * d) / (2 * determinant)
    stretch = mean + np.sqrt(max(mean * mean - 1, 0))
    believable = stretch < LARGEST_STRETCH and SCALES[0] < scale < SCALES[1]
    return scale if believable else None


def _similarity(points: _Points, inliers: Mask) -> Matrix:
    query, image = points.query[inliers], points.image[inliers]
    centred = query - query.mean()
    length = float((np.abs(centred) ** 2).sum())
    factor = complex((centred.conj() * (image - image.mean())).sum()) / max(length, 1e-9)
    offset = complex(image.mean()) - factor * complex(query.mean())
    return np.array(
        [[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]]
    )


def _affine(points: _Points, inliers: Mask) -> Matrix:
    rows = points.rows[inliers]
    # Normal equations, kept solvable where all places lie on a line.
    square = rows.T @ rows + 1e-6 * np.eye(3)
    return np.linalg.solve(square, rows.T @ points.places[inliers]).T


def _distinct_places(points: _Points, inliers: Mask) -> int:
    """Return at how many places, 3 px apart or so, the inliers are."""
    cells = [
        {(x // 3, y // 3) for x, y in side[inliers, :2].tolist()}
        for side in (points.rows, points.places)
    ]
    return min(len(cells[0]), len(cells[1]))
