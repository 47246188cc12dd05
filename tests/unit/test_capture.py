"""What may be kept of how a photograph was taken: coarse, from a short list, and nothing beside it."""

import io
import json

import pandas as pd
import pillow_heif
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release

from deidlib import config
from deidlib.columns import rules as columns
from deidlib.errors import ReleaseError
from deidlib.intake.capture import CAPTURE, capture_cell, read_capture
from deidlib.release import verify_release
from deidlib.release.documents import write_index
from deidlib.release.layout import file_digest
from deidlib.storage import tables

SETTINGS = {0x829A: 1 / 118, 0x829D: 9.0, 0x8827: 250, 0x9209: 25, 0x920A: 60.0, 0xA405: 90}
CLASSES = {
    "exposure_time": "1/125",
    "f_number": "8",
    "iso": "200",
    "flash": "fired",
    "focal_length": "85",
    "camera_class": "cropped sensor",
}
SECRETS = {0x9003: "2024:03:31 10:00:00", 0xA431: "SERIAL-4711", 0xA430: "Dr Quixote", 0x927C: b"Quixote's notes"}
OF_THE_FILE = {
    0x010F: "Quixote Optics",
    0x0110: "Q-1",
    0x0131: "Quixote 1.0",
    0x013B: "Quixote",
    0x0132: "2024:03:31 10:00:00",
}


def exif_of(settings):
    exif = Image.Exif()
    exif.update(OF_THE_FILE)
    exif.get_ifd(0x8769).update({**SECRETS, **settings})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def saved(kind, settings):
    out = io.BytesIO()
    image = Image.new("RGB", (64, 64), "grey")
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(out, exif=exif_of(settings).tobytes())
    else:
        image.save(out, kind, exif=exif_of(settings).tobytes())
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF"])
def test_classes_are_read_from_every_format_and_nothing_else_is(kind):
    assert read_capture(saved(kind, SETTINGS)) == CLASSES


@given(
    st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.floats(0, 1e9) | st.integers(0, 60000) | st.text(max_size=5))
)
def test_whatever_a_file_says_only_listed_values_come_out(settings):
    try:
        data = saved("JPEG", settings)
    except Exception:  # no such Exif can be written
        return
    for name, value in read_capture(data).items():
        assert value in CAPTURE[name].values


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", b"\xff\xd8\xff\xe1" + bytes(40), b"\0\0\0\x18ftypheic" + bytes(40)]
)
def test_what_is_no_picture_has_none(data):
    assert read_capture(data) == {}


def test_without_the_settings_there_is_nothing():
    assert read_capture(saved("JPEG", {0x829A: 3600.0, 0x8827: 10_000_000, 0xA405: 90})) == {"focal_length": "85"}


def test_a_stored_value_that_is_not_of_the_list_is_not_released():
    assert capture_cell(json.dumps({"iso": "Quixote"}), "iso") is None
    assert capture_cell(None, "iso") is None


def release(folder, metadata):
    shards = write_private(folder / "private", [Spec("patient-one", "photo-one"), Spec("patient-two", "photo-two")])
    for file in (folder / "private").rglob("photos.parquet"):
        photos = tables.read(file, tables.PHOTOS)
        at = photos.schema.get_field_index("capture")
        cells = pa.array([json.dumps(CLASSES)] * len(photos), pa.string())
        tables.write(photos.set_column(at, photos.schema.field(at), cells), file, tables.PHOTOS)
    cfg = {**CONFIG, "release": {**CONFIG["release"], "metadata": metadata}}
    return write_release(folder / "private", folder / "release", shards, 2, "1.0.0", cfg, MODELS), cfg


def test_nothing_is_kept_unless_it_is_named_and_verify_knows_the_columns(tmp_path):
    folder, _ = release(tmp_path / "none", [])
    assert not CAPTURE.keys() & set(pd.read_parquet(folder / "index.parquet"))
    folder, _ = release(tmp_path / "some", ["exposure_time", "camera_class"])
    index = pd.read_parquet(folder / "index.parquet")
    assert set(index["exposure_time"]) == {"1/125"}
    assert set(index["camera_class"]) == {"cropped sensor"}
    assert "iso" not in index
    assert verify_release(folder) == []
    fields = json.loads((folder / "croissant.json").read_text())["recordSet"][0]["field"]
    assert {"exposure_time", "camera_class"} <= {field["name"] for field in fields}
    card = (folder / "README.md").read_text()
    assert "exposure time in whole stops" in card
    assert "coarse classes of exposure_time, camera_class" in card
    text = pa.parquet.read_table(folder / "index.parquet")
    at = text.schema.get_field_index("camera_class")
    other = text.set_column(at, text.schema.field(at), pa.array(["Q-1 no. 4711"] * len(text)))
    before = file_digest(folder / "index.parquet")
    write_index(other, folder / "index.parquet")
    sums = (folder / "SHA256SUMS").read_text().replace(before, file_digest(folder / "index.parquet"))
    (folder / "SHA256SUMS").write_text(sums)
    assert any("column camera_class holds a value that deidlib never" in one for one in verify_release(folder))


def test_the_configuration_names_what_can_be_kept():
    allowed = config.load_schema("config")["properties"]["release"]["properties"]["metadata"]["items"]["enum"]
    assert set(allowed) == CAPTURE.keys()
    with pytest.raises(config.ConfigError, match=r"release\.metadata.* 'serial' is not allowed"):
        config.complete_config({"cohort": "a.tsv", "release": {"metadata": ["serial"]}})


def test_a_column_of_the_sheet_cannot_pass_for_one_of_them():
    with pytest.raises(ReleaseError, match="rename the column"):
        columns.check_rules({"iso": {"rule": "keep"}}, ["iso"])
    both = {"release": {"columns": {"iso": {"rule": "keep"}}, "metadata": ["iso"]}}
    with pytest.raises(ReleaseError, match="rename the column"):
        columns.rules_of(both)
