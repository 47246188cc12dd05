"""The cheapest cohort that runs through all stages: for the cluster's test, the soak and the benches.

It has the portrait that scikit-image ships (NASA, public domain), cropped differently for every photograph, a text file
with the name of a photograph, and few inversion steps.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from PIL import Image
from skimage import data

#: Bounds of quality (not of privacy) that faces of few inversion steps keep.
WIDE_BOUNDS = {"seam_max": 10.0, "mouth_shift_max": 30.0, "latent_distance_max": 10.0, "realism_min": -100.0}
SETTINGS = {
    "attempts": 2,
    "device": "cpu",
    "preset": {"inversion": {"steps": 2}, "checks": WIDE_BOUNDS},
    "reid": {"sweep_photos": 0},
    "release": {"k": 1, "columns": {}, "date": "2026-03-01"},
}
KEY = "one fixed key, so that every run draws the same donors"


def write_cohort(folder: Path, patients: int, shards: int, **settings) -> Path:
    """Write photographs, sheet, key and configuration into ``folder``; returns the configuration's path."""
    photos = folder / "cohort"
    photos.mkdir(parents=True, exist_ok=True)
    rows = ["patient_id\tphoto_id\tpath\tconsent"]
    portrait = Image.fromarray(data.astronaut())
    for i in range(patients):
        left, top = 20 + i % 37, i // 37
        portrait.crop((left, top, left + 384, top + 384)).save(photos / f"{i}.png")
        rows.append(f"P{i}\tP{i}-a\t{i}.png\tyes")
    (photos / "text.jpg").write_text("this is no image")
    rows.append("Q\tQ-a\ttext.jpg\tyes")
    (photos / "samples.tsv").write_text("\n".join(rows) + "\n")
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    given = {"cohort": str(photos / "samples.tsv"), "key_file": str(folder / "key"), "shards": shards}
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS | given | settings))
    return folder / "my.yaml"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its relative path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
