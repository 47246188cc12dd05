"""In how many jobs the work over a whole cohort is done. That of a small cohort is a part of the stage itself."""

from __future__ import annotations

from collections.abc import Sequence

#: Pairs of photographs that one job compares in each search: some half an hour of one core. Up to twice as many need no
#: job.
PAIRS_OF_JOB = 25 * 10**8
#: Photographs whose released images one job writes or examines: some ten minutes. Up to twice as many need no job.
IMAGES_OF_JOB = 10_000


def search_jobs(photos: int) -> int:
    """Number of jobs that share the searches among the originals of so many photographs."""
    return 1 if photos**2 <= 2 * PAIRS_OF_JOB else -(-(photos**2) // PAIRS_OF_JOB)


def image_jobs(photos: int) -> int:
    """Number of jobs that share the images of a release from so many photographs."""
    return 1 if photos <= 2 * IMAGES_OF_JOB else -(-photos // IMAGES_OF_JOB)


def dealt(things: Sequence[str], part: tuple[int, int]) -> Sequence[str]:
    """Things that fall to a part: its number, from 0, and how many parts there are."""
    number, of = part
    return things[number::of]
