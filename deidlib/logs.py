"""Progress of a command: a bar on a terminal, plain lines elsewhere. No line holds an original id."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two plain lines of progress.
LINE_INTERVAL = 30.0


#: Control characters, those that change the direction of writing or have no width, line separators, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
_LONGEST = 500
#: The plain lines of progress that are written below.
_PROGRESS = re.compile(r"^[a-z ]+: (?:(?:done, )?(\d+) of )?(\d+) photographs(?:, [\d.]+ s)?$", re.MULTILINE)


def printable(text: str, longest: int = _LONGEST) -> str:
    """Text that came from elsewhere as a line for a terminal: control characters escaped, cut where it is long."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} … {text[-longest // 4 :]}"
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def say(text: str) -> None:
    """Print a text on standard error, at once (a log may be followed while the command works)."""
    print("\n".join(printable(line, 1 << 16) for line in text.split("\n")), file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int, unit: str = "photographs") -> Iterator[Callable[..., None]]:
    """Show how far a loop has come: a bar on a terminal, a line every half minute elsewhere.

    Parameters
    ----------
    what : str
        Name of the stage.
    total : int
        Number of steps.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable
        ``step(n=1)`` counts n more; ``step(done, total)`` sets where the loop is.
    """
    shown = _bar(what, total, unit) if sys.stderr.isatty() else _lines(what, total, unit)
    with shown as step:
        yield step


def last_progress(log: str) -> tuple[int, int] | None:
    """How far the last line of progress in a command's log is: (done, total); None where it has none."""
    found = _PROGRESS.findall(log)
    return (int(found[-1][0] or 0), int(found[-1][1])) if found else None


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)

        def step(n: int = 1, total: int | None = None) -> None:
            if total is None:
                bar.advance(task, n)
            else:
                bar.update(task, completed=n, total=total)

        yield step


@contextmanager
def _lines(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    begun = last = time.monotonic()
    done = 0
    say(f"{what}: {total} {unit}")

    def step(n: int = 1, new_total: int | None = None) -> None:
        nonlocal done, total, last
        done, total = (done + n, total) if new_total is None else (n, new_total)
        now = time.monotonic()
        if now - last >= LINE_INTERVAL:
            last = now
            say(f"{what}: {done} of {total} {unit}, {now - begun:.0f} s")

    yield step
    say(f"{what}: done, {done} of {total} {unit}, {time.monotonic() - begun:.1f} s")
