"""What a release says of licences: every model of a run with its terms; without a face, none forbids commerce."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from shard_tables import CONFIG, Spec, write_private, write_release

from deidlib import config, models
from deidlib.release import verify_release

NON_COMMERCIAL = re.compile(r"non-?commercial|research only|-NC\b|NVIDIA|FFHQ|mobilestylegan|stylegan", re.IGNORECASE)
DOCUMENTS = ("README.md", "datasheet.md", "croissant.json", "ro-crate-metadata.json", "settings.json", "gallery.html")


def released(folder: Path, route: str, generator: str) -> Path:
    """A release with the models that a run of this configuration uses."""
    completed = config.complete_config({"cohort": "samples.tsv", "generator": generator})
    cfg = CONFIG | {name: completed[name] for name in ("views", "generator", "reid")}
    cfg["preset"] = completed["preset"] | {"checks": CONFIG["preset"]["checks"]}  # which the drawn rows keep
    shards = write_private(folder / "private", [Spec(f"p-{n}", f"q-{n}", route=route) for n in range(2)], attempts=1)
    return write_release(folder / "private", folder / "release", shards, 1, "1.0.0", cfg, models.used_models(completed))


def test_a_release_without_a_generator_carries_no_non_commercial_line(tmp_path):
    release = released(tmp_path, "region_only", "none")
    assert verify_release(release) == []
    found = {name: NON_COMMERCIAL.findall((release / name).read_text()) for name in DOCUMENTS}
    assert found == {name: [] for name in DOCUMENTS}
    assert "licences below bind" not in (release / "README.md").read_text()
    settings = json.loads((release / "settings.json").read_text())
    assert settings["generator"] == "none"
    assert not config.draws_faces({"views": settings["views"]})


def test_a_release_with_faces_names_every_model_with_licence_and_training_data(tmp_path):
    release = released(tmp_path, "generate", "mobilestylegan")
    card, sheet = (release / "README.md").read_text(), (release / "datasheet.md").read_text()
    table = card.split("### Models")[1].split("\n\n## ")[0]
    registered = yaml.safe_load(models.registry.REGISTRY_PATH.read_text())
    for name, entry in registered.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| {name} |".replace("_", "_"))]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2] not in ("", "not stated")
        assert cells[4].startswith(" ".join(entry["licence"].split())[:12])
        assert f"- {name}: training data: " in sheet
    assert NON_COMMERCIAL.search(card)
    assert "The models' licences below bind as well." in card


@pytest.mark.parametrize("route", ["region_only", "intraoral"])
def test_a_cohort_that_happens_to_need_no_face_names_no_generators_licence(tmp_path, route):
    release = released(tmp_path, route, "mobilestylegan")
    models_table = (release / "README.md").read_text().split("### Models")[1].split("\n## ")[0]
    assert not NON_COMMERCIAL.search(models_table)
    assert "no image met a generator" in models_table
