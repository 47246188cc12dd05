"""What the workflow needs of the decisions before its jobs start. It imports little: every cluster job runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from deidlib.review.decisions import decisions_file, read_decisions, shards_with_decisions
from deidlib.review.verdicts import OFF, attempts_needed, effect_digest, requests
from deidlib.storage.results import Results


def made_attempts(private: Path, shard: str, config: Mapping) -> int:
    """Number of attempts of a shard: the configuration's, and one more for each round of requests for another face."""
    if config["review"] == OFF or not decisions_file(private, shard).is_file():
        return config["attempts"]
    return attempts_needed(read_decisions(private, shard), config["attempts"], config["reviewers"])


def requested(private: Path, shard: str, attempt: int, config: Mapping) -> list[str]:
    """Photographs for which reviewers asked this attempt, sorted by ``release_photo_id``; none of a regular attempt."""
    if attempt < config["attempts"] or config["review"] == OFF or not decisions_file(private, shard).is_file():
        return []
    wanted = requests(read_decisions(private, shard), config["attempts"], config["reviewers"])
    return sorted(wanted.get(attempt, ()))


def effect_of_shard(private: Path, shard: str) -> str:
    """Digest of the decisions that matter to a shard's outcomes; see :func:`deidlib.review.verdicts.effect_digest`."""
    return effect_digest(read_decisions(private, shard))


def masks_of_shard(private: Path, shard: str) -> str:
    """Digest of the masks that reviewers drew on a shard's photographs; ``none`` where there is none."""
    folder = Results(Path(private)).masks / shard
    if not folder.is_dir():
        return "none"
    sums = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(folder.glob("*.png"))]
    return hashlib.sha256(repr(sums).encode()).hexdigest() if sums else "none"


def digest_of_all(private: Path) -> str:
    """SHA-256 of all decisions, as they lie on the disk."""
    files = [(shard, decisions_file(private, shard).read_bytes()) for shard in shards_with_decisions(private)]
    sums = [(shard, hashlib.sha256(data).hexdigest()) for shard, data in files]
    return hashlib.sha256(repr(sums).encode()).hexdigest()
