"""Figures that benches recorded, for the drawings in docs: a table beside this file, a row a measurement."""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

FILE = Path(__file__).with_name("recorded.tsv")
COLUMNS = ("stage", "photographs", "what", "seconds", "processor_seconds", "mib", "date", "machine")


def recorded() -> list[dict[str, str]]:
    """All rows of the table."""
    if not FILE.is_file():
        return []
    with open(FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def record(stage: str, photographs: int, what: str, seconds: float, processor: float, mib: float) -> None:
    """Write a measurement in place of an earlier one of the same stage, size and kind."""
    key = stage, str(photographs), what
    rows = [row for row in recorded() if (row["stage"], row["photographs"], row["what"]) != key]
    figures = f"{seconds:.1f}", f"{processor:.1f}", f"{mib:.0f}", datetime.datetime.now().date().isoformat()
    rows.append(dict(zip(COLUMNS, (*key, *figures, _machine()), strict=True)))
    rows.sort(key=lambda row: (int(row["photographs"]), row["stage"], row["what"]))
    with open(FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _machine() -> str:
    """The processor and its instruction sets, for example "AMD EPYC: avx2"."""
    from deidlib.storage.provenance import host_kind

    kind = host_kind()
    return f"{kind['processor']}: {' '.join(kind['instructions'])}"
