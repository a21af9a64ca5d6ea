"""Files of a folder that cannot be indexed, counted by kind."""

from collections import Counter, defaultdict

# The most suffixes or names listed per kind.
MOST_NAMED = 8


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


# Suffixes of camera raw files; each maker has its own.
RAW = _suffixes(
    "3fr ari arw bay cap cr2 cr3 crw dcr dcs dng erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw "
    "orf pef ptx pxn raf raw rw2 rwl sr2 srf srw x3f"
)
VIDEO = _suffixes(
    "3g2 3gp asf avi f4v flv m2ts m2v m4v mkv mod mov mp4 mpeg mpg mts mxf ogv qt rm rmvb tod vob "
    "webm wmv"
)
FOLDERS, SPECIAL = "folders", "pipe, device or dead link"


class PassedOver:
    """Counts passed-over files by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._suffixes: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, suffix: str) -> None:
        """Count a file by its lower-case suffix, if people might expect it to be indexed."""
        kind = "RAW" if suffix in RAW else "video" if suffix in VIDEO else None
        if kind is not None:
            self._counts[kind] += 1
            self._suffixes[kind].add(suffix)

    def add_special(self, name: str) -> None:
        """Count a pipe, socket, device or dead link that has the name of an image."""
        self._counts[SPECIAL] += 1
        self._suffixes[SPECIAL].add(name.encode("utf-8", "replace").decode())

    def add_folder(self) -> None:
        """Count a folder that cannot be read."""
        self._counts[FOLDERS] += 1

    def sentence(self) -> str:
        """Summarise the counts, as in `3 files were passed over: 3 RAW (.cr2)`; empty if none."""
        files = sum(count for kind, count in self._counts.items() if kind != FOLDERS)
        named = [self._named(kind) for kind in ("RAW", "video", SPECIAL) if self._counts[kind]]
        said = f"{files} file{'s were' if files > 1 else ' was'} passed over: {', '.join(named)}"
        folders = self._counts[FOLDERS]
        unread = f"{folders} folder{'s' if folders > 1 else ''} could not be read"
        return "; ".join([said] * bool(files) + [unread] * bool(folders))

    def _named(self, kind: str) -> str:
        suffixes = sorted(self._suffixes[kind])
        more = ", …" if len(suffixes) > MOST_NAMED else ""
        return f"{self._counts[kind]} {kind} ({', '.join(suffixes[:MOST_NAMED])}{more})"
