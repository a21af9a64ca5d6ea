"""When, where and with which camera a photo was taken, according to its EXIF tags.

The tags are those of `Facts.exif`: names as in the standard (CIPA DC-008), single numbers as
numbers, several as a space-separated string.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

Tags = Mapping[str, str | int | float]

# The date tags in order of preference, each with the tag of its UTC offset.
_DATES = (
    ("DateTimeOriginal", "OffsetTimeOriginal"),
    ("DateTimeDigitized", "OffsetTimeDigitized"),
    ("DateTime", "OffsetTime"),
)
# Nothing was photographed earlier; clocks that were never set report year 0 or 1.
FIRST_YEAR = 1826
# UTC offsets in use range from -12 to +14 hours.
LOWEST_OFFSET, HIGHEST_OFFSET = timedelta(hours=-12), timedelta(hours=14)

_DATE = re.compile(r"\s*(\d{4})[-:/. ](\d{1,2})[-:/. ](\d{1,2})(?!\d)")
_TIME = re.compile(r"[T\s]+(\d{1,2})[-:.](\d{1,2})(?:[-:.](\d{1,2})(?:[.,]\d+)?)?(?!\d)", re.I)
_OFFSET = re.compile(r"\s*(?:Z|([-+])(\d{1,2}):?(\d{2})?)\s*", re.I)


def taken_at(tags: Tags) -> datetime | None:
    """Return when a photo was taken, from the first tag with a valid date.

    Without an offset, the time is assumed to be UTC; GPS times are UTC. A date without a valid time
    of day is taken as midnight.
    """
    for time in _times(tags):
        if time.year >= FIRST_YEAR:
            return time
    return None


def _times(tags: Tags) -> Iterator[datetime]:
    offsets = [_offset(_text(tags.get(name))) for _, name in _DATES]
    for (name, _), own in zip(_DATES, offsets, strict=True):
        said = _text(tags.get(name))
        time, rest = _time(said)
        told = _offset(rest)
        known = [offset for offset in (told, own, *offsets) if offset is not None]
        if time is not None:
            try:
                yield time - (known[0] if known else timedelta())
            except OverflowError:
                continue
    day, _ = _time(_text(tags.get("GPSDateStamp")))
    if day is not None:
        yield day + _time_of_day(_text(tags.get("GPSTimeStamp")))


def location(tags: Tags) -> tuple[float, float] | None:
    """Return the latitude and longitude, in degrees, at which a photo was taken."""
    latitude = _degrees(_text(tags.get("GPSLatitude")), _text(tags.get("GPSLatitudeRef")), "S")
    longitude = _degrees(_text(tags.get("GPSLongitude")), _text(tags.get("GPSLongitudeRef")), "W")
    if latitude is None or longitude is None:
        return None
    # Cameras without a fix write zeros.
    valid = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)
    return (latitude, longitude) if valid else None


def camera(tags: Tags) -> str | None:
    """Return the camera's make and model, without repeating a make that the model begins with."""
    make, model = (" ".join(str(tags.get(name) or "").split()) for name in ("Make", "Model"))
    if not model or not make or model.casefold().startswith(make.split()[0].casefold()):
        return model or make or None
    return f"{make} {model}"


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return "" if value is None else str(value).replace("\0", "").strip()


def _time(said: str) -> tuple[datetime | None, str]:
    """Parse the date and time at the start of a text, as UTC; also return the rest of it."""
    date = _DATE.match(said)
    if date is None:
        return None, ""
    try:
        day = datetime(*(int(part) for part in date.groups()), tzinfo=UTC)
    except ValueError:
        return None, ""
    rest = said[date.end() :]
    time = _TIME.match(rest)
    if time is None:
        return day, ""
    hour, minute, second = (int(part or 0) for part in time.groups())
    try:
        return day.replace(hour=hour, minute=minute, second=second), rest[time.end() :]
    except ValueError:
        return day, ""


def _time_of_day(said: str) -> timedelta:
    numbers = _numbers(said.replace(":", " "))
    if numbers is None or len(numbers) != 3:
        return timedelta()
    hours, minutes, seconds = (0.0 if math.isnan(number) else number for number in numbers)
    valid = 0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 60
    return timedelta(hours=hours, minutes=minutes, seconds=int(seconds)) if valid else timedelta()


def _offset(said: str) -> timedelta | None:
    """Parse a UTC offset; None if it is not one in use."""
    found = _OFFSET.fullmatch(said)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    if int(minutes or 0) >= 60:
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    offset = -offset if sign == "-" else offset
    return offset if LOWEST_OFFSET <= offset <= HIGHEST_OFFSET else None


def _degrees(value: str, reference: str, negative: str) -> float | None:
    parts = _numbers(value)
    if parts is None or not 1 <= len(parts) <= 3 or math.isnan(parts[0]):
        return None
    # Minutes or seconds that are not a number (0/0) count as zero.
    degrees = sum(part / 60**place for place, part in enumerate(parts) if not math.isnan(part))
    if not math.isfinite(degrees):
        return None
    # `S`, `s`, `South`.
    return -abs(degrees) if reference[:1].upper() == negative else degrees


def _numbers(said: str) -> list[float] | None:
    """Parse space-separated numbers; version 0.1 wrote `None` for one it could not read."""
    try:
        return [math.nan if part == "None" else float(part) for part in said.split()]
    except ValueError:
        return None
