"""What EXIF tags say, in our own terms: when, where and with what a picture was taken.

The tags are those of `Facts.exif`: names as in the standard (CIPA DC-008), numbers plain, several
numbers as a text with spaces between.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

Tags = Mapping[str, str | int | float]


def taken_at(tags: Tags) -> datetime | None:
    """Return when a picture was taken; a camera that tells no offset is taken to mean UTC."""
    said = str(tags.get("DateTimeOriginal") or tags.get("DateTime") or "")
    try:
        time = datetime.strptime(said[:19], "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        return time - _offset(str(tags.get("OffsetTimeOriginal") or ""))
    except (ValueError, OverflowError):
        return None


def location(tags: Tags) -> tuple[float, float] | None:
    """Return the latitude and longitude, in degrees, of where a picture was taken."""
    latitude = _degrees(tags.get("GPSLatitude"), tags.get("GPSLatitudeRef"), "S")
    longitude = _degrees(tags.get("GPSLongitude"), tags.get("GPSLongitudeRef"), "W")
    if latitude is None or longitude is None:
        return None
    # Cameras without a fix write zeros.
    valid = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)
    return (latitude, longitude) if valid else None


def camera(tags: Tags) -> str | None:
    """Return the camera's make and model; many models begin with the make already."""
    make, model = (" ".join(str(tags.get(name) or "").split()) for name in ("Make", "Model"))
    if not model or not make or model.casefold().startswith(make.split()[0].casefold()):
        return model or make or None
    return f"{make} {model}"


def _offset(said: str) -> timedelta:
    if len(said) != 6 or said[0] not in "+-":
        return timedelta()
    offset = timedelta(hours=int(said[1:3]), minutes=int(said[4:6]))
    return -offset if said[0] == "-" else offset


def _degrees(
    value: str | float | None, reference: str | float | None, negative: str
) -> float | None:
    try:
        parts = [float(part) for part in str(value).split()]
    except ValueError:
        return None
    if not 1 <= len(parts) <= 3:
        return None
    degrees = sum(part / 60**place for place, part in enumerate(parts))
    return -degrees if reference == negative else degrees
