"""One id in several spellings: case, punctuation, leading zeros, invisible characters, forms of Unicode."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

#: The end that spreadsheets add to a whole number: 1234.0.
_WHOLE = re.compile(r"([0-9]+)\.0+")
_RUNS = re.compile(r"[0-9]+|[^\W\d_]+")
#: An id is distinctive if it holds a letter and a digit, or this many digits, or this many letters ("7" and "ab": no).
_DIGITS, _LETTERS = 4, 4


def plain(text: str) -> str:
    """Text in Unicode's compatibility form (NFKC), without case and without zero-width characters."""
    if text.isascii():
        return text.lower()  # the same, a tenth of the time
    text = unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) != "Cf"))
    return unicodedata.normalize("NFKC", text.casefold())


def invisible(text: str) -> bool:
    """Whether a text holds invisible characters (U+200B, U+FEFF, direction marks, no-break spaces)."""
    return any(unicodedata.category(c) == "Cf" or (c.isspace() and c != " ") for c in text)


def runs(text: str) -> tuple[str, ...]:
    """Runs of letters and of digits, without punctuation and leading zeros: ``P-007`` and ``p7`` are ``("p", "7")``."""
    text = plain(text).strip()
    whole = _WHOLE.fullmatch(text)
    found = _RUNS.findall(whole[1] if whole else text)
    return tuple((run.lstrip("0") or "0") if run[0].isdecimal() else run for run in found)


def folded_id(text: str) -> tuple[str, ...]:
    """What all spellings of an id share: its :func:`runs`, with letters joined that only punctuation separates."""
    joined: list[str] = []
    for run in runs(text):
        if joined and not run[0].isdecimal() and not joined[-1][0].isdecimal():
            joined[-1] += run
        else:
            joined.append(run)
    return tuple(joined) or (plain(text).strip(),)


def distinctive(id_runs: tuple[str, ...]) -> bool:
    """Whether an id can be distinguished from a common number or word in a text."""
    digits = letters = 0
    for run in id_runs:
        if run[0].isdecimal():
            digits += len(run)
        else:
            letters += len(run)
    return bool(digits and letters) or digits >= _DIGITS or letters >= _LETTERS


class Ids:
    """Ids of a sheet, to be found in texts in any spelling."""

    def __init__(self, ids: Iterable[str]):
        found = ((given, runs(given)) for given in set(ids))
        self._known = {key if key else (plain(given).strip(),) for given, key in found if not key or distinctive(key)}
        self._longest = max(map(len, self._known), default=0)

    def within(self, text: str) -> bool:
        """Whether a text contains one of the ids, alone or between other letters and digits."""
        if (plain(text).strip(),) in self._known:
            return True
        found = runs(text)
        return any(
            found[start:end] in self._known
            for start in range(len(found))
            for end in range(start + 1, min(start + self._longest, len(found)) + 1)
        )
