"""Estimates the pace of a run and its end.

The work is counted in core-seconds, by the time of each stage on CPUs (tests/bench/RESULTS.md, 2026-11-26). Only their
ratios matter. The pace is the work that this run has done since it began. The same share of photographs is expected in
later attempts as so far. With a GPU inversion costs less than the estimate assumes, so the run ends sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from deidlib.running.shard import Shard, Step, steps
from deidlib.running.status import DONE, HELD_BACK, LATER_STAGES, Status

#: Core-seconds a photograph of each stage, by the table that it writes.
_COSTS = {
    "photos": 0.05,
    "landmarks": 0.1,
    "regions": 0.1,
    "donors": 3.4,
    "faces": 18.0,
    "blended": 0.4,
    "checks": 0.5,
    "outcomes": 0.01,
    "embeddings": 1.3,
}
#: Stages over the whole cohort: fixed core-seconds, and core-seconds for each photograph (sweep: of the sweep).
_LATER_COSTS = {"sweep": (3.0, 22.0), "attacks": (12.0, 0.7), "release": (4.0, 0.01), "report": (16.0, 0.1)}
#: Share of the photographs that go to another attempt, as long as no shard is finished.
_EXPECTED_SHARE = 0.15
#: Below this share of the work, done in this run, no pace is given.
_LEAST = 0.01


@dataclass(frozen=True)
class Pace:
    """How fast a run goes.

    Attributes
    ----------
    share : float
        Work that is done, 0 to 1, by this run and before it.
    per_hour : float or None
        Photographs an hour, the whole way and all attempts; None: too little is done for an estimate.
    left : float or None
        Seconds until the end; None: not known, or no run is going on.
    """

    share: float
    per_hour: float | None
    left: float | None


def pace(status: Status, now: float) -> Pace:
    """Estimate how fast a run goes.

    Parameters
    ----------
    status : Status
        Of a results folder.
    now : float
        Seconds since 1970.
    """
    total, done, here = _work(status)
    if not total or status.begun is None:
        return Pace(0.0, None, None)
    share = 1.0 if status.finished else min(done / total, 0.99)
    until = now if status.running else _last(status)
    seconds = until - status.begun
    if here < _LEAST * total or seconds <= 0:
        return Pace(share, None, None)
    rate = here / seconds
    left = (total - done) / rate if status.running is not False and not status.finished else None
    return Pace(share, rate / (total / status.photos) * 3600, left)


def duration(seconds: float) -> str:
    """A time to wait in words, as exact as an estimate is: ``2 h 10 min``, ``14 min``, ``40 s``."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60 // 10 * 10} min" if minutes % 60 >= 10 else f"{minutes // 60} h"
    return f"{minutes / 1440:.1f} days"


def in_words(found: Pace, now: datetime) -> str:
    """One line: work done, pace, end."""
    parts = [f"{found.share:.0%} of the work done"]
    if found.per_hour is not None:
        parts.append(f"{found.per_hour:,.0f} photographs an hour, all attempts and stages")
    if found.left is not None:
        end = now + timedelta(seconds=found.left)
        parts.append(f"about {duration(found.left)} left, until {end:%Y-%m-%d %H:%M}")
    return "; ".join(parts)


def _work(status: Status) -> tuple[float, float, float]:
    """Core-seconds: all of the run's, those that are done, those of them that this run did."""
    total = done = here = 0.0
    begun = status.begun or 0.0
    shares = _shares(status)
    known = [shard.photos for shard in status.shards if shard.photos is not None]
    unknown = len(status.shards) - len(known)
    typical = max(0, status.photos - sum(known)) / unknown if unknown else 0.0
    for shard in status.shards:
        photos = typical if shard.photos is None else shard.photos
        for step in steps(shard.attempts):
            through = shard.done.get(step)
            cost = _COSTS[step.table] * (through.photos if through else _expected(shard, step, photos, shares))
            total += cost
            if through:
                done += cost
                here += cost if through.time >= begun else 0.0
    for under in status.under:
        part = _COSTS[under.step.table] * min(under.through, under.photos)
        done, here = done + part, here + part
    for name in LATER_STAGES:
        fixed, each = _LATER_COSTS[name]
        photos = min(status.sweep_photos, status.photos) if name == "sweep" else status.photos
        cost = fixed + each * photos
        total += cost
        if status.later[name] in (DONE, HELD_BACK):
            done += cost
            here += cost if status.later_times.get(name, 0.0) >= begun else 0.0
    return total, done, here


def _expected(shard: Shard, step: Step, photos: float, shares: list[float]) -> float:
    if step.attempt < 0:
        return photos
    handled = shard.handled(step.attempt)
    if step.attempt >= len(shares):  # reviewers asked for it, of few
        return handled or 0
    return shares[step.attempt] * photos if handled is None else handled


def _shares(status: Status) -> list[float]:
    """Share of the photographs that each attempt handles, over the finished shards, else as expected."""
    shares: list[float] = []
    for attempt in range(status.attempts):
        telling = [(shard.handled(attempt), shard.photos) for shard in status.shards if shard.photos]
        photos = sum(number for handled, number in telling if handled is not None)
        if photos:
            shares.append(sum(handled for handled, _ in telling if handled is not None) / photos)
        else:
            shares.append(shares[-1] * _EXPECTED_SHARE if shares else 1.0)
    return shares


def _last(status: Status) -> float:
    """When the last thing was done."""
    times = [done.time for shard in status.shards for done in shard.done.values()]
    return max([*times, *status.later_times.values()], default=0.0)
