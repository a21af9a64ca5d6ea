"""The tables that come with the photos."""

from pathlib import Path

import numpy as np

from training.data.tables import read_captions, read_features, read_labels


def test_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "captions").write_text("file\tsplit\tcaption\na.jpg\ttest\tA cat .\n")
    assert read_captions(tmp_path / "captions") == [("a.jpg", "test", "A cat .")]
    (tmp_path / "labels").write_text("set\tfile\tlabel\nx\ta.jpg\tgala, apple\nx\tb.jpg\tapple\n")
    assert read_labels(tmp_path / "labels") == {"gala": {"a.jpg"}, "apple": {"a.jpg", "b.jpg"}}
    assert (read_captions(None), read_labels(None)) == ([], {})


def test_features_are_matched_to_photos_by_name(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, pets_names=["pets/cat.jpg"], pets_features=np.array([[1, 2]], np.float16),
             farm_names=["cow.jpg"], farm_features=np.array([[3, 4]], np.float16))  # fmt: skip
    features, known = read_features(path, ["cow.jpg", "unicorn.jpg", "cat.jpg"])
    assert features.tolist() == [[3, 4], [0, 0], [1, 2]]
    assert known.tolist() == [True, False, True]
