from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


GOOD = "2010:05:06 07:08:09"
WHEN = datetime(2010, 5, 6, 7, 8, 9, tzinfo=UTC)
MIDNIGHT = datetime(2010, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "none", ["0000:00:00 00:00:00", ":  :     :  :", "", " ", "0001:01:01 00:00:00", "\0", "n/a"]
)
def test_the_first_tag_that_tells_a_date_counts(none: str) -> None:
    names = ("DateTimeOriginal", "DateTimeDigitized", "DateTime")
    for place, name in enumerate(names):
        before, behind = names[:place], names[place + 1 :]
        others = dict.fromkeys(before, none) | dict.fromkeys(behind, "2015:01:01 00:00:00")
        assert taken_at({**others, name: GOOD}) == WHEN
    gps = {"GPSDateStamp": "2010:05:06", "GPSTimeStamp": "7.0 8.0 9.5"}
    assert taken_at({**dict.fromkeys(names, none), **gps}) == WHEN
    assert taken_at(dict.fromkeys((*names, "GPSDateStamp"), none)) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2010-05-06 07:08:09", WHEN),
        ("2010/05/06 07:08:09", WHEN),
        ("2010.05.06 07.08.09", WHEN),
        ("2010 05 06 07:08:09", WHEN),
        ("2010:05:06T07:08:09", WHEN),
        ("2010:05:06  07:08:09.123", WHEN),
        ("2010:5:6 7:8:9", WHEN),
        ("2010:05:06 07:08", WHEN.replace(second=0)),
        ("2010-05-06T07:08:09Z", WHEN),
        ("2010-05-06T09:08:09+02:00", WHEN),
        ("2010:05:06", MIDNIGHT),
        ("2010:05:06   :  :  ", MIDNIGHT),
        ("2010:05:06 24:00:00", MIDNIGHT),
        ("2010:05:06 07:08:99", MIDNIGHT),
        ("2010:13:06 07:08:09", None),
        ("2010:02:30 07:08:09", None),
        ("2010:05", None),
    ],
)
def test_dates_as_they_are_written(said: str, expected: datetime | None) -> None:
    assert taken_at({"DateTimeOriginal": said}) == expected


@pytest.mark.parametrize(
    ("said", "hour"),
    [
        ("+02:00", 5),
        ("-05:00", 12),
        ("+0200", 5),
        ("+02", 5),
        ("Z", 7),
        *((none, 7) for none in ("+99:99", "-13:00", "+15:00", "+02:75", "+ab:cd", "   :  ", "2")),
    ],
)
def test_offsets_that_are_in_use(said: str, hour: int) -> None:
    for name in ("OffsetTimeOriginal", "OffsetTimeDigitized", "OffsetTime"):
        found = taken_at({"DateTimeOriginal": GOOD, name: said})
        assert found is not None
        assert (found.hour, found.day) == (hour, 6)


def test_a_date_has_its_own_offset_before_any_other() -> None:
    offsets = {"OffsetTimeOriginal": "+01:00", "OffsetTime": "+05:00"}
    assert taken_at({"DateTimeOriginal": GOOD, **offsets}) == WHEN - timedelta(hours=1)
    assert taken_at({"DateTime": GOOD, **offsets}) == WHEN - timedelta(hours=5)


def test_dates_at_the_end_of_time_are_none() -> None:
    assert taken_at({"DateTime": "9999:12:31 23:00:00", "OffsetTime": "-05:00"}) is None


@pytest.mark.parametrize("time", ["nan nan nan", "25.0 0.0 0.0", "7.0", "", "seven", "-1 0 0"])
def test_a_day_without_a_time_of_day_is_a_day(time: str) -> None:
    assert taken_at({"GPSDateStamp": "2010:05:06", "GPSTimeStamp": time}) == MIDNIGHT


@pytest.mark.parametrize("south", ["S", "s", "South", "south", " S ", "S\0", b"S", b"s\0"])
@pytest.mark.parametrize("west", ["W", "w", "West", "WEST", b"W"])
def test_hemispheres_are_letters_or_words(south: Any, west: Any) -> None:
    tags = {"GPSLatitude": "1 30 0", "GPSLatitudeRef": south}
    tags |= {"GPSLongitude": "2 30 0", "GPSLongitudeRef": west}
    assert location(tags) == (-1.5, -2.5)


@pytest.mark.parametrize(
    ("said", "degrees"),
    [
        ("48.0 51.0 nan", 48.85),
        ("48.0 51.0 None", 48.85),
        ("48.0 nan nan", 48),
        ("48.0 51.0 0.0", 48.85),
        ("nan 51.0 0.0", None),
        ("inf 0 0", None),
        ("48 inf 0", None),
        ("", None),
    ],
)
def test_seconds_that_are_no_number_are_none(said: str, degrees: float | None) -> None:
    found = location({"GPSLatitude": said, "GPSLongitude": "2 0 0"})
    assert found == (None if degrees is None else pytest.approx((degrees, 2)))


TEXTS = st.text("0123456789:-/. TZ+nasSwW\0", max_size=30) | st.text(max_size=30)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("DateTimeOriginal", "DateTimeDigitized", "DateTime", "GPSDateStamp"),
                *("OffsetTimeOriginal", "OffsetTimeDigitized", "OffsetTime", "GPSTimeStamp"),
                *("GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef", "Make"),
            ]
        ),
        TEXTS | st.integers() | st.floats(),
    )
)
def test_whatever_tags_say_is_a_date_and_a_place_or_none(tags: dict[str, Any]) -> None:
    time, place = taken_at(tags), location(tags)
    assert time is None or time.tzinfo is UTC
    assert place is None or (abs(place[0]) <= 90 and abs(place[1]) <= 180)
    camera(tags)
