"""The first part of an image's vector: what the image shows.

Principal components, of two things side by side: the features, and the network's logits of classes,
which are what it was trained to tell apart. Each is whitened by the root of its deviations, so that
a few strong components do not decide every similarity. The second part is learned with the texts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.encoding.efficientnet import Array

# The dimensions of what an image shows, and of what texts tell of it. With one more, of how close
# it is to texts in general, they are 384.
SHOWN, TOLD = 192, 191
# How much the logits count, relative to the features.
LOGITS = 1.0
# Components with a smaller share of the variance are noise.
LEAST_SHARE = 1e-7

Matrix = NDArray[np.float64]


class LinearMap(NamedTuple):
    """From features to what images show, not yet of unit length: (192, 1280) and (192,)."""

    weight: Array
    bias: Array


def principal_components(features: Array, classes: Array) -> LinearMap:
    """Return the map by features, (n, 1280), and the classifier's weights, (1000, 1280)."""
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    covariance = centred.T @ centred / len(centred)
    # What all classes have in common tells none of them apart.
    logits = (classes - classes.mean(0)).astype(np.float64).T
    parts = [
        _whitened(np.eye(len(mean)), covariance),
        LOGITS**0.5 * _whitened(logits, covariance),
    ]
    both = np.concatenate(parts, 1)
    _, axes = np.linalg.eigh(both.T @ covariance @ both)
    weight = (both @ axes[:, ::-1][:, :SHOWN]).T
    # Of unit length on average, which keeps float16 precise; the graph normalises each vector.
    weight /= np.sqrt(np.trace(weight @ covariance @ weight.T))
    return LinearMap(weight.astype(np.float32), (-weight @ mean).astype(np.float32))


def _whitened(maps: Matrix, covariance: Matrix) -> Matrix:
    """Return the principal axes of the linear maps' outputs, each divided by the root of its
    deviation: (1280, components). The variances sum to 1.
    """
    variances, axes = np.linalg.eigh(maps.T @ covariance @ maps)
    kept = variances > LEAST_SHARE * variances.max()
    deviations = np.sqrt(variances[kept])
    return maps @ axes[:, kept] / np.sqrt(deviations) / np.sqrt(deviations.sum())
