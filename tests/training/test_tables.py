"""The tables that come with the photos."""

from pathlib import Path

from training.data.tables import read_captions, read_labels


def test_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "captions").write_text("file\tsplit\tcaption\na.jpg\ttest\tA cat .\n")
    assert read_captions(tmp_path / "captions") == [("a.jpg", "test", "A cat .")]
    (tmp_path / "labels").write_text("set\tfile\tlabel\nx\ta.jpg\tgala, apple\nx\tb.jpg\tapple\n")
    assert read_labels(tmp_path / "labels") == {"gala": {"a.jpg"}, "apple": {"a.jpg", "b.jpg"}}
    assert (read_captions(None), read_labels(None)) == ([], {})
