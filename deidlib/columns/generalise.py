"""Coarser cells for quasi-identifiers: classes widened, rare categories merged, cells suppressed, until k holds.

k-anonymity (Sweeney 2002) over *patients*: a patient's record is, for each quasi-identifier, the set of cells that the
patient's photographs carry, for the release says which photographs are one patient's. An empty cell is a value like any
other. The combination of levels with the least loss is chosen (full-domain generalisation, Samarati 2001).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deidlib.columns.rules import OLDEST_AGE

OTHER = "other"
#: Rules of ``release.columns`` whose cells are numbers or classes of numbers, and the first width they are widened to.
_FIRST_WIDTH = {"keep": 5, "bin": None, "days": 7, "year": 5}
_CLASS = re.compile(r"(-?\d+(?:\.\d+)?)(?:\+|-\d+| to -?\d+)?")
_LEVELS_MOST = 64
#: Cost of an emptied cell, against one that lost everything by generalisation: emptying spares the common records and
#: removes those of minorities, which biases the remaining data.
_SUPPRESSED = 2


@dataclass(frozen=True)
class Level:
    """One way to write a column's cells.

    Attributes
    ----------
    change : str or None
        What it does, in words for the audit; None: nothing.
    relabel : callable
        Cell (never None) → coarser cell, None where it is suppressed.
    loss : callable
        Cell → share of its information that is lost, 0 to 1 (normalised certainty penalty, Xu et al. 2006).
    """

    change: str | None
    relabel: Callable[[str], str | None]
    loss: Callable[[str], float]


def levels_of(name: str, rule: str, width: int | None, cells: Sequence[str], patients: Sequence[int], k: int):
    """Levels of one column, from its cells as they are to the empty column.

    Parameters
    ----------
    name, rule, width
        The column and its rule in ``release.columns``.
    cells, patients : sequence
        Its distinct cells and how many patients carry each.
    k : int
        Categories of fewer than k, 2 k, 4 k, … patients count as rare.

    Returns
    -------
    list of Level
    """
    levels = [Level(None, lambda cell: cell, lambda cell: 0.0)]
    if name == "age" or (rule in _FIRST_WIDTH and rule != "keep"):
        levels += _widened(name, width or 1, _FIRST_WIDTH[rule], cells)
    else:
        levels += _merged(cells, patients, k)
    return [*levels, Level("suppressed", lambda cell: None, lambda cell: 1.0)]


def _lowest(cell: str) -> float:
    return float(_CLASS.fullmatch(cell)[1])


def _widened(name: str, width: int, first: int | None, cells: Sequence[str]) -> list[Level]:
    lows = [_lowest(cell) for cell in cells]
    span = max(lows) - min(lows) + width if lows else 0
    wider, levels = first if first and width == 1 else 2 * width, []
    while len(levels) < _LEVELS_MOST:
        if len({class_of(low, wider, name == "age") for low in lows}) < 2:
            break
        levels.append(
            Level(
                f"generalised to classes of {wider}",
                lambda cell, w=wider: class_of(_lowest(cell), w, name == "age"),
                lambda cell, w=wider: min(1.0, (w - width) / span),
            )
        )
        wider *= 2
    return levels


def class_of(number: float, width: int, age: bool = False) -> str:
    """Class of a number, anchored at 0; a class of ages that reaches 90 has no upper end."""
    low = math.floor(number / width) * width
    high = low + width - 1
    if age and high >= OLDEST_AGE:
        return f"{min(low, OLDEST_AGE)}+"
    return f"{low}-{high}" if low >= 0 else f"{low} to {high}"


def _merged(cells: Sequence[str], patients: Sequence[int], k: int) -> list[Level]:
    """Merge categories of few patients; at least two at a time, so that "other" is not one of them renamed."""
    order = [cell for _, cell in sorted(zip(patients, cells, strict=True))]
    count_of = dict(zip(cells, patients, strict=True))
    levels, before, limit = [], 0, k
    while len(levels) < _LEVELS_MOST:
        n = max(2, sum(count_of[cell] < limit for cell in order))
        if n >= len(order):
            break
        if n > before:
            rare, share = frozenset(order[:n]), (n - 1) / (len(order) - 1)
            levels.append(
                Level(
                    f"categories of few patients merged into '{OTHER}'",
                    lambda cell, rare=rare: OTHER if cell in rare else cell,
                    lambda cell, rare=rare, share=share: share if cell in rare else 0.0,
                )
            )
        before, limit = n, 2 * limit
    return levels


@dataclass(frozen=True)
class Choice:
    """The levels with the least loss, and the patients who are suppressed in addition.

    Attributes
    ----------
    levels : dict
        Column → its level.
    suppressed : frozenset of str
        Patients whose quasi-identifiers are all emptied.
    """

    levels: Mapping[str, Level]
    suppressed: frozenset[str]

    def cell(self, column: str, cell: str | None, patient: str | None = None) -> str | None:
        """The text that replaces a cell."""
        if cell is None or patient in self.suppressed:
            return None
        return self.levels[column].relabel(cell)


def cell_sets(frame: pd.DataFrame, name: str) -> pd.Series:
    """Set of each patient's cells of one column, as a sorted tuple ("" for an empty cell), by pseudonym in order."""
    cells = frame[name].astype(object).where(frame[name].notna(), "")
    pairs = pd.DataFrame({"patient": frame["release_patient_id"], "cell": cells}).drop_duplicates()
    pairs = pairs.sort_values(["patient", "cell"])
    several = pairs["patient"].duplicated(keep=False)
    sets = pd.Series([(cell,) for cell in pairs["cell"][~several]], index=pairs["patient"][~several], dtype=object)
    if several.any():
        sets = pd.concat([sets, pairs[several].groupby("patient")["cell"].agg(tuple)])
    return sets.sort_index()


def records(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """One row a patient: of each column the set of the patient's cells, as text; an empty cell counts as a value.

    Parameters
    ----------
    frame : DataFrame
        ``release_patient_id`` and the columns, a row a photograph.
    columns : sequence of str
        Quasi-identifiers or sensitive columns.

    Returns
    -------
    DataFrame
        Indexed from 0, in the order of the patients' pseudonyms.
    """
    result = pd.DataFrame({"release_patient_id": sorted(frame["release_patient_id"].unique())})
    for name in columns:
        result[name] = [" | ".join(cells) for cells in cell_sets(frame, name)]
    return result


def choose(frame: pd.DataFrame, options: Mapping[str, tuple[str, int | None]], k: int) -> Choice:
    """Find the levels, and the patients to suppress, with which k holds at the least loss of information.

    Parameters
    ----------
    frame : DataFrame
        ``release_patient_id`` and the quasi-identifiers, a row a photograph.
    options : mapping
        Quasi-identifier → (rule, width) of ``release.columns``.
    k : int
        Every record that is left is carried by at least k patients, or all quasi-identifiers are empty.

    Returns
    -------
    Choice
    """
    columns = list(options)
    levels, codes, losses = [], [], []
    for name in columns:
        carried = frame[["release_patient_id", name]].dropna().drop_duplicates()[name].value_counts()
        cells = sorted(carried.index)
        found = levels_of(name, *options[name], cells, [int(carried[cell]) for cell in cells], k)
        place, sets = pd.factorize(cell_sets(frame, name))
        levels.append(found)
        codes.append([_codes(sets, level)[place] for level in found])
        losses.append([_loss(sets, level)[place] for level in found])
    best, kept = math.inf, None
    nodes = itertools.product(*(range(len(found)) for found in levels))
    for node in sorted(nodes, key=lambda node: (_total(losses, node).sum(), node)):
        lost = _total(losses, node)
        if lost.sum() >= best:
            break
        gone = _suppressed(np.stack([codes[c][level] for c, level in enumerate(node)], axis=1), k)
        total = lost[~gone].sum() + _SUPPRESSED * len(columns) * gone.sum()
        if total < best:
            best, kept = total, (node, gone)
    node, gone = kept
    patients = np.array(sorted(frame["release_patient_id"].unique()))
    return Choice(
        {name: levels[c][node[c]] for c, name in enumerate(columns)}, frozenset(str(p) for p in patients[gone])
    )


def _total(losses: list, node: tuple[int, ...]) -> np.ndarray:
    return sum(losses[c][level] for c, level in enumerate(node))


def _codes(sets: Sequence[tuple[str, ...]], level: Level) -> np.ndarray:
    """Number of each set of cells after the change; 0: only empty ones."""
    known = {("",): 0}
    new = [tuple(sorted({(level.relabel(cell) if cell else None) or "" for cell in cells})) for cells in sets]
    return np.array([known.setdefault(cells, len(known)) for cells in new], int)


def _loss(sets: Sequence[tuple[str, ...]], level: Level) -> np.ndarray:
    return np.array([np.mean([level.loss(cell) if cell else 0.0 for cell in cells]) for cells in sets], float)


def _suppressed(codes: np.ndarray, k: int) -> np.ndarray:
    """Patients, (P,) bool, to be emptied so that k patients carry every record, the empty one too."""
    gone = np.zeros(len(codes), bool)
    while True:
        _, place, count = np.unique(np.where(gone[:, None], 0, codes), axis=0, return_inverse=True, return_counts=True)
        place = place.reshape(-1)
        empty = place == place[gone][0] if gone.any() else (codes == 0).all(axis=1)
        small = (count[place] < k) & ~empty
        if small.any():
            gone |= small
        elif empty.any() and empty.sum() < k and not empty.all():
            sizes = np.where(empty, np.inf, count[place])
            gone |= place == place[np.argmin(sizes)]
        else:
            return gone
