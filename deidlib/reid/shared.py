"""Searches that several jobs share: each counts for some blocks of probes, and the stage ``reid`` joins the counts.

The searches lie one after the other on a line, as long as they cost, and the jobs divide the line evenly. So a job of
many has few searches, and reads the embeddings of these alone. A job writes one row group for each search. Its file
names the embeddings that were searched; numbers of others are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib.errors import InputError
from deidlib.reid.attacker import IMPOSTORS, RANKED, SHOWN, face_pairing
from deidlib.reid.embeddings import LOOKS, CohortFaces, faces_of
from deidlib.reid.looks import LOOK_VALUES
from deidlib.reid.ranking import Numbers, Pairing, compare, merged
from deidlib.reid.soft_biometrics import FUSED_SEARCHES, LOOK_SEARCHES, LOOKS_SHOWN, fused_pairing, look_pairing
from deidlib.storage import sealed, tables

_INPUTS, _GROUPS = "inputs", "searches"
_OVERHEAD = 260  # a comparison of so many values takes as long as what is done with its score


@dataclass(frozen=True)
class PlannedSearch:
    """A search over the whole cohort whose embeddings are read when it is done.

    Attributes
    ----------
    pairing : callable
        Reads them.
    cost : int
        How long one comparison takes, in units that searches share.
    """

    pairing: Callable[[], Pairing]
    cost: int


def planned_searches(
    embeddings: Callable[[str, str], Iterable[pa.Table]],
    same_above: Mapping[str, bool],
    distractors: Mapping[str, np.ndarray | None],
    seed: int,
) -> list[PlannedSearch]:
    """Plan the searches over the whole cohort, those of one recogniser after the other.

    Parameters
    ----------
    embeddings : callable
        As :class:`deidlib.reid.suite.Evidence` has it.
    same_above : mapping
        Recogniser → whether a higher score is more alike.
    distractors : mapping
        Recogniser → other people, (G, D), or None.
    seed : int
        ``reid.seed``.
    """
    looks = CohortFaces(embeddings, LOOKS, LOOKS_SHOWN)

    @lru_cache(maxsize=1)  # those of one recogniser are in memory
    def faces(name: str) -> CohortFaces:
        return CohortFaces(embeddings, name, SHOWN)

    def of_recogniser(name: str, shown: tuple[str, str]) -> Pairing:
        return face_pairing(name, faces(name), shown, distractors[name], same_above[name])

    def fused(name: str, region: str) -> Pairing:
        return fused_pairing(name, faces(name), looks, region, same_above[name], seed)

    planned = []
    for name in same_above:
        cost = _OVERHEAD + _values(embeddings, name)
        planned += [PlannedSearch(partial(of_recogniser, name, shown), cost) for shown in (*RANKED, *IMPOSTORS)]
        planned += [PlannedSearch(partial(fused, name, region), cost + LOOK_VALUES) for region in FUSED_SEARCHES]
    looked = (partial(look_pairing, looks, region, kinds) for region, kinds in LOOK_SEARCHES)
    return planned + [PlannedSearch(pairing, _OVERHEAD + LOOK_VALUES) for pairing in looked]


def _values(embeddings: Callable[[str, str], Iterable[pa.Table]], recogniser: str) -> int:
    """Number of values of a recogniser's embeddings; 0 where there are none."""
    found = (faces_of(table, recogniser, "original") for table in embeddings(recogniser, "original"))
    return next((faces.vectors.shape[1] for faces in found if len(faces)), 0)


def digest_of_inputs(inputs: Mapping[str, str]) -> str:
    """SHA-256 of what is searched: name → digest of each file, and what else the searches depend on."""
    return hashlib.sha256(json.dumps(dict(inputs), sort_keys=True).encode()).hexdigest()


def write_part(out: Path, planned: Sequence[PlannedSearch], part: tuple[int, int], inputs: str) -> int:
    """Count a part of the searches and write it; returns the number of probes, a search's each.

    Parameters
    ----------
    out : Path
        Table to write, ``tables.SEARCHES``.
    planned : sequence of PlannedSearch
        The searches.
    part : (int, int)
        Number of the part, from 0, and how many there are.
    inputs : str
        From :func:`digest_of_inputs`.
    """
    groups: dict[str, int] = {}
    rows = 0
    with tables.writing(
        out, tables.SEARCHES, lambda: {_INPUTS: inputs, _GROUPS: json.dumps(groups), "part": json.dumps(part)}
    ) as append:
        for search, first, last in _mine(planned, part):
            pairing = search.pairing()
            blocks = len(pairing.blocks())
            found = compare(pairing, slice(math.floor(blocks * first), math.floor(blocks * last)))
            if len(found):
                groups[pairing.name] = len(groups)
                columns = {one.name: getattr(found, one.name) for one in fields(Numbers)}
                append(pa.table({"search": [pairing.name] * len(found), **columns}, schema=tables.SEARCHES))
                rows += len(found)
    return rows


def _mine(
    planned: Sequence[PlannedSearch], part: tuple[int, int]
) -> Iterator[tuple[PlannedSearch, Fraction, Fraction]]:
    """Searches that a part has a share of, and where the share begins and ends, from 0 to 1."""
    number, of = part
    whole, before = sum(search.cost for search in planned), 0
    for search in planned:
        edges = (Fraction(whole * edge - of * before, of * search.cost) for edge in (number, number + 1))
        first, last = (min(max(edge, Fraction(0)), Fraction(1)) for edge in edges)
        if first < last:
            yield search, first, last
        before += search.cost


@dataclass(frozen=True)
class CountedSearches:
    """What jobs counted: a :data:`deidlib.reid.ranking.Compare` that reads a search when it is asked for.

    Attributes
    ----------
    files : tuple of Path
        What :func:`write_part` wrote, of every job.
    """

    files: tuple[Path, ...]

    def __call__(self, pairing: Pairing) -> Numbers:
        """Join the numbers of a search; InputError where probes are missing."""
        found = merged([*_of_search(self.files, pairing.name)])
        if not np.array_equal(found.row, pairing.rows):
            raise InputError(
                f"the searches {pairing.name} are not complete: delete the folder of the searches and run the workflow "
                "again"
            )
        return found


def read_parts(files: Sequence[Path], inputs: str) -> CountedSearches:
    """Open what jobs counted.

    Parameters
    ----------
    files : sequence of Path
        What :func:`write_part` wrote, of every job.
    inputs : str
        From :func:`digest_of_inputs`.

    Raises
    ------
    InputError
        A file is about other embeddings.
    """
    for file in files:
        with sealed.opened(file) as opened:
            if opened.notes.get(_INPUTS) != inputs:
                raise InputError(
                    f"searches/{file.name} was counted among other embeddings; delete it and run the workflow again"
                )
    return CountedSearches(tuple(files))


def _of_search(files: Sequence[Path], name: str) -> Iterator[Numbers]:
    columns = [one.name for one in fields(Numbers)]
    for file in files:
        with sealed.opened(file) as opened:
            group = json.loads(opened.notes[_GROUPS]).get(name)
            if group is not None:
                table = opened.row_group(group, ["search", *columns])
                yield Numbers(*(table[column].to_numpy() for column in columns))
