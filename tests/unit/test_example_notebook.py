"""``docs/example.ipynb`` runs on a release from its first cell to its last, and its classifier learns."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import shard_tables
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release

NOTEBOOK = Path(__file__).parents[2] / "docs" / "example.ipynb"
PATIENTS = 24


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """Patients at rest, with closed lips, and smiling, with teeth."""
    drawn = shard_tables.draw_face

    def closed_at_rest(seed: int, side: int) -> np.ndarray:
        face = drawn(seed, side)
        if seed % 2:  # rows of the sheet begin at 2, and every second photograph is at rest
            return face
        mouth = (slice(round(0.6 * side), round(0.85 * side)), slice(round(0.3 * side), round(0.7 * side)))
        face[mouth] = np.median(face[round(0.55 * side), :], axis=0)
        return face

    folder = tmp_path_factory.mktemp("release")
    specs = [
        Spec(f"patient-{p}", f"photo-{p}-{view}", view=view, side=96)
        for p in range(PATIENTS)
        for view in ("frontal_rest", "frontal_smile")
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shard_tables, "draw_face", closed_at_rest)
        shards = write_private(folder / "private", specs, attempts=1)
    return write_release(folder / "private", folder / "release", shards, 1, "1.0.0", CONFIG, MODELS)


def test_the_notebook_runs_and_its_classifier_generalises_to_unseen_patients(notebook, release, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(release)
    values: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{NOTEBOOK.name}:{cell.id}", "exec"), values)
    matplotlib.pyplot.close("all")
    assert len(values["index"]) == 2 * PATIENTS
    train, test = (set(values[name]["release_patient_id"]) for name in ("train", "test"))
    assert train.isdisjoint(test)
    assert len(train | test) == PATIENTS
    assert min(len(train), len(test)) >= 3
    assert values["accuracy"] > 0.8 > values["guessing"]


def test_the_notebook_is_kept_without_results(notebook):
    """Results would show pictures, which belong into no repository."""
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
