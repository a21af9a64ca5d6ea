"""The measure of search by text."""

import numpy as np

from training.measuring.text_search import ranks


def test_images_as_similar_as_the_right_one_rank_before_it() -> None:
    texts = np.eye(3, dtype=np.float32)
    images = np.array([[1, 0, 0], [1, 0.5, 0], [0, 0.5, 0.2]], np.float32)
    assert ranks(texts, images, np.array([0, 1, 2])).tolist() == [2, 2, 1]
