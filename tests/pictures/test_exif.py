from datetime import UTC, datetime

import pytest

from app.pictures.exif import camera, location, taken_at


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"DateTime": "2020:05:01 12:00:00"}, datetime(2020, 5, 1, 12, tzinfo=UTC)),
        (
            {"DateTimeOriginal": "2019:01:02 03:04:05", "OffsetTimeOriginal": "+02:00"},
            datetime(2019, 1, 2, 1, 4, 5, tzinfo=UTC),
        ),
        (
            {"DateTimeOriginal": "2019:01:02 03:04:05", "OffsetTimeOriginal": "-05:30"},
            datetime(2019, 1, 2, 8, 34, 5, tzinfo=UTC),
        ),
        ({"DateTimeOriginal": "0000:00:00 00:00:00"}, None),
        ({"DateTimeOriginal": "yesterday", "OffsetTimeOriginal": "+xx:yy"}, None),
        (
            {"DateTimeOriginal": "2019:01:02 03:04:05", "OffsetTimeOriginal": "+xx:yy"},
            datetime(2019, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        ({"DateTimeOriginal": 5}, None),
    ],
)
def test_when(tags: dict[str, str | int | float], expected: datetime | None) -> None:
    assert taken_at(tags) == expected


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (("50.0 30.0 36.0", "N"), ("7.0 15.0 0.0", "E"), (50.51, 7.25)),
        (("33 51.5", "S"), ("151", "E"), (-33.858333, 151)),
        (("1 0 0", "S"), ("2 0 0", "W"), (-1, -2)),
        (("0 0 0", "N"), ("0 0 0", "E"), None),
        (("91 0 0", "N"), ("0 0 0", "E"), None),
        (("north", "N"), ("0 0 0", "E"), None),
        (("1 2 3 4", "N"), ("1 0 0", "E"), None),
        ((None, None), ("1 0 0", "E"), None),
    ],
)
def test_where(latitude: tuple, longitude: tuple, expected: tuple[float, float] | None) -> None:
    names = ("GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef")
    given = zip(names, (*latitude, *longitude), strict=True)
    found = location({name: value for name, value in given if value is not None})
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-5))


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("FUJIFILM", "", "FUJIFILM"),
        ("", "X100", "X100"),
        ("", "", None),
    ],
)
def test_with_what(make: str, model: str, expected: str | None) -> None:
    assert camera({"Make": make, "Model": model}) == expected
