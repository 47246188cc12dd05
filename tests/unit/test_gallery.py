"""The release's gallery page: it shows what the index holds, whatever the cells say, and reaches no network."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_tables import CONFIG, MODELS, Spec, ids, write_private, write_release
from test_verify import sign_again
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.release import gallery, verify_release
from deidlib.release.layout import image_paths
from deidlib.storage import tables

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028<!--"


def written(folder: Path, specs: list[Spec], version: str = "1.0.0", config: dict = CONFIG) -> Path:
    shards = write_private(folder / "private", specs, attempts=1)
    return write_release(folder / "private", folder / "release", shards, 1, version, config, MODELS)


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", age=8.0 + 20 * (n // 2), sex="FM"[n // 2 % 2]) for n in range(6)]
    return written(tmp_path_factory.mktemp("gallery"), specs)


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "1.0.0"))


def index_of(n: int, **columns: list) -> pa.Table:
    """An index of n photographs, two of each patient."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    names = [("".join(letters[k >> shift & 31] for shift in (10, 5, 0)) + "a" * 16)[:16] for k in range(n)]
    cells = {field.name: [None] * n for field in tables.INDEX}
    paths = image_paths(names)
    cells |= {
        "release_photo_id": names,
        "release_patient_id": [names[k // 2] for k in range(n)],
        "path": [paths[name] for name in names],
    }
    table = pa.Table.from_pydict(cells, schema=tables.INDEX)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def page_of(index: pa.Table, name: str = "A name") -> str:
    return gallery.gallery_page(index, name, "CC-BY-4.0", "1.0.0", "2026-03-01").decode()


def test_the_page_holds_every_photograph_with_its_patient_and_values(whole):
    data = data_of((whole / "gallery.html").read_text())
    index = pq.read_table(whole / "index.parquet").to_pylist()
    assert [data["ids"][at : at + 16] for at in range(0, 96, 16)] == [row["release_photo_id"] for row in index]
    patients = [data["patient_ids"][at : at + 16] for at in range(0, 48, 16)]
    of = [name for name, n in zip(patients, data["photographs_of"], strict=True) for _ in range(n)]
    assert of == [row["release_patient_id"] for row in index]
    for column in data["columns"]:
        shown = [None if cell < 0 else column["values"][cell] for cell in column["cells"]]
        assert shown == [row[column["name"]] for row in index]
    assert {"view", "age", "sex", "route"} <= {column["name"] for column in data["columns"]}
    assert (data["name"], data["version"], data["licence"]) == ("Synthetic test cohort", "1.0.0", "CC-BY-4.0")


def test_classes_stand_in_the_order_of_their_numbers():
    data = data_of(page_of(index_of(4, age=["10-14", "5-9", "100-104", "5-9"])))
    (age,) = [column for column in data["columns"] if column["name"] == "age"]
    assert age["values"] == ["5-9", "10-14", "100-104"]


class Elements(HTMLParser):
    """Start tags of a page, each with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_no_cell_name_or_licence_becomes_markup():
    plain = Elements(page_of(index_of(2, note=["a", "b"]))).found
    evil = index_of(2, note=[HOSTILE, "b"])
    field = evil.schema.field("note").with_name(HOSTILE)
    evil = evil.rename_columns([*evil.schema.names[:-1], HOSTILE]).cast(pa.schema([*tables.INDEX, field]))
    page = page_of(evil, name=HOSTILE)
    assert Elements(page).found == plain
    data = data_of(page)
    assert data["name"] == data["columns"][-1]["name"] == HOSTILE
    assert HOSTILE in data["columns"][-1]["values"]


def test_the_policy_lets_only_this_script_this_style_and_local_images_through(whole):
    page = (whole / "gallery.html").read_text()
    elements = Elements(page).found
    kinds = [tag for tag, _ in elements[:5]]
    assert kinds == ["html", "head", "meta", "meta", "meta"]
    policy = elements[3][1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.split(" ", 1) for rule in policy["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", rules["script-src"])
    linked = [value for _, given in elements for name, value in given.items() if name in ("src", "href", "action")]
    assert linked == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for _, given in elements for name in given)


def test_beyond_the_limit_the_page_names_no_photograph(monkeypatch):
    index = index_of(6)
    for limit in ("MOST_PHOTOGRAPHS", "MOST_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(gallery, limit, 5)
            page = page_of(index)
        assert data_of(page)["photographs"] == 6
        assert index["release_photo_id"][0].as_py() not in page
    assert index["release_photo_id"][0].as_py() in page_of(index)


def test_an_image_in_a_deeper_folder_is_found():
    names = [f"aab{letter}" + "a" * 12 for letter in "abcdef"]
    index = index_of(6)
    paths = image_paths(names, folder_max=2)
    index = index.set_column(0, tables.INDEX.field(0), pa.array(names))
    index = index.set_column(2, tables.INDEX.field(2), pa.array([paths[name] for name in names]))
    assert data_of(page_of(index))["depths"] == [paths[name].count("/") - 2 for name in names] != [0] * 6


def test_a_withdrawn_photograph_is_not_in_the_next_versions_page(tmp_path):
    specs = [Spec(f"patient-{n}", f"photo-{n}") for n in range(4)]
    written(tmp_path, specs)
    page = (written(tmp_path, specs[:3], "2.0.0") / "gallery.html").read_text()
    gone, kept = ids(specs[3]), ids(specs[0])
    assert not any(name in page for name in gone)
    assert all(name in page for name in kept)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"values":["F","M"]', '"values":["M","F"]', "shows other photographs or values than the index holds"),
        ('"version":"1.0.0"', '"version":"1.0.1"', "states another version or date than the card"),
        ("img-src 'self' file: data:", "img-src *", "has not the security policy that deidlib writes"),
        ("<title>", '<script src="x.js"></script><title>', "has not the security policy that deidlib writes"),
        ('"use strict";', '"use strict"; fetch("/");', "has not the security policy that deidlib writes"),
        ('id="data">{', 'id="data">[', "not in the form that deidlib writes"),
    ],
)
def test_verify_compares_the_page_with_the_index(copy, old, new, says):
    page = (copy / "gallery.html").read_text()
    assert old in page
    (copy / "gallery.html").write_text(page.replace(old, new))
    sign_again(copy)
    (problem,) = [line for line in verify_release(copy) if not line.startswith("ro-crate-metadata.json")]
    assert problem.startswith("gallery.html: ")
    assert says in problem


def test_verify_says_when_the_pages_program_is_not_the_one_it_knows(copy, monkeypatch):
    shown = CliRunner().invoke(app, ["verify", str(copy)])
    assert shown.exit_code == 0
    assert "gallery" not in shown.output
    before, after = gallery._shell()
    monkeypatch.setattr(gallery, "_shell", lambda: (before, f"{after}<!-- another version -->"))
    shown = CliRunner().invoke(app, ["verify", str(copy)])
    assert shown.exit_code == 0
    assert "its program is not the one that this deidlib writes" in shown.output


def test_a_release_of_an_earlier_deidlib_needs_no_page(copy):
    (copy / "gallery.html").unlink()
    crate = json.loads((copy / "ro-crate-metadata.json").read_text())
    crate["@graph"] = [entity for entity in crate["@graph"] if entity["@id"] != "gallery.html"]
    for entity in crate["@graph"]:
        if entity["@id"] == "./":
            entity["hasPart"] = [part for part in entity["hasPart"] if part["@id"] != "gallery.html"]
    (copy / "ro-crate-metadata.json").write_text(json.dumps(crate))
    sign_again(copy)
    assert verify_release(copy) == []
