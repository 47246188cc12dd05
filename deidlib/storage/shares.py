"""In how many jobs the work over a whole cohort is done. That of a small cohort is a part of the stage itself."""

from __future__ import annotations

#: Pairs of photographs that one job compares in each search: some half an hour of one core.
PAIRS_OF_JOB = 10**10


def search_jobs(photos: int) -> int:
    """Number of jobs that share the searches among the originals of so many photographs."""
    return max(1, -(-(photos**2) // PAIRS_OF_JOB))
