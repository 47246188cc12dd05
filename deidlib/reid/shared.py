"""Searches that several jobs share: each counts for some blocks of probes, and the stage ``reid`` joins the counts.

A job writes one row group for each search. Its file names the embeddings that were searched; numbers of others are
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib.errors import InputError
from deidlib.reid.attacker import IMPOSTORS, RANKED, SHOWN, face_pairing
from deidlib.reid.embeddings import LOOKS, CohortFaces
from deidlib.reid.ranking import Numbers, Pairing, compare, merged
from deidlib.reid.soft_biometrics import FUSED_SEARCHES, LOOK_SEARCHES, LOOKS_SHOWN, fused_pairing, look_pairing
from deidlib.storage import sealed, tables

_INPUTS, _GROUPS = "inputs", "searches"


def all_pairings(
    embeddings: Callable[[str, str], Iterable[pa.Table]],
    same_above: Mapping[str, bool],
    distractors: Mapping[str, np.ndarray | None],
    seed: int,
) -> Iterator[Pairing]:
    """Give the searches over the whole cohort, one after the other; few embeddings of one recogniser are in memory.

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
    for name, above in same_above.items():
        faces = CohortFaces(embeddings, name, SHOWN)
        for shown in (*RANKED, *IMPOSTORS):
            yield face_pairing(name, faces, shown, distractors[name], above)
        for region in FUSED_SEARCHES:
            yield fused_pairing(name, faces, looks, region, above, seed)
        del faces  # before those of the next are read
    for region, kinds in LOOK_SEARCHES:
        yield look_pairing(looks, region, kinds)


def digest_of_inputs(inputs: Mapping[str, str]) -> str:
    """SHA-256 of what is searched: name → digest of each file, and what else the searches depend on."""
    return hashlib.sha256(json.dumps(dict(inputs), sort_keys=True).encode()).hexdigest()


def write_part(out: Path, pairings: Iterable[Pairing], part: tuple[int, int], inputs: str) -> int:
    """Count a part of every search and write it; returns the number of probes, a search's each.

    Parameters
    ----------
    out : Path
        Table to write, ``tables.SEARCHES``.
    pairings : iterable of Pairing
        The searches.
    part : (int, int)
        As for :func:`deidlib.reid.ranking.compare`.
    inputs : str
        From :func:`digest_of_inputs`.
    """
    groups: dict[str, int] = {}
    rows = 0
    with tables.writing(
        out, tables.SEARCHES, lambda: {_INPUTS: inputs, _GROUPS: json.dumps(groups), "part": json.dumps(part)}
    ) as append:
        for pairing in pairings:
            found = compare(pairing, part)
            if len(found):
                groups[pairing.name] = len(groups)
                columns = {one.name: getattr(found, one.name) for one in fields(Numbers)}
                append(pa.table({"search": [pairing.name] * len(found), **columns}, schema=tables.SEARCHES))
                rows += len(found)
    return rows


def read_parts(files: Sequence[Path], inputs: str) -> Callable[[Pairing], Numbers]:
    """Join what jobs counted: a :data:`deidlib.reid.ranking.Compare` that reads a search when it is asked for.

    Parameters
    ----------
    files : sequence of Path
        What :func:`write_part` wrote, of every job.
    inputs : str
        From :func:`digest_of_inputs`.

    Raises
    ------
    InputError
        A file is about other embeddings. The callable raises it where probes of a search are missing.
    """
    for file in files:
        with sealed.opened(file) as opened:
            if opened.notes.get(_INPUTS) != inputs:
                raise InputError(
                    f"searches/{file.name} was counted among other embeddings; delete it and run the workflow again"
                )

    def numbers(pairing: Pairing) -> Numbers:
        found = merged([*_of_search(files, pairing.name)])
        if not np.array_equal(found.row, pairing.rows):
            raise InputError(
                f"the searches {pairing.name} are not complete: delete the folder of the searches and run the workflow "
                "again"
            )
        return found

    return numbers


def _of_search(files: Sequence[Path], name: str) -> Iterator[Numbers]:
    columns = [one.name for one in fields(Numbers)]
    for file in files:
        with sealed.opened(file) as opened:
            group = json.loads(opened.notes[_GROUPS]).get(name)
            if group is not None:
                table = opened.row_group(group, ["search", *columns])
                yield Numbers(*(table[column].to_numpy() for column in columns))
