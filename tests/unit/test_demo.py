"""The demo cohort: people who stay themselves when they smile, things to remove, and things to refuse."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deidlib.demo import N_VIRTUAL, landscape, write_demo_cohort
from deidlib.donors.bank import read_bank
from deidlib.donors.edit import fit_editor
from deidlib.generators import latent_prior
from deidlib.intake.cohort import read_sheet
from deidlib.intake.decoding import decode_photo
from deidlib.models import recognisers


@pytest.fixture(scope="module")
def cohort(generator, tmp_path_factory):
    editor = fit_editor(read_bank(), latent_prior(generator))
    return write_demo_cohort(tmp_path_factory.mktemp("demo"), generator, editor).parent


def picture(cohort, name):
    return decode_photo((cohort / "photos" / name).read_bytes(), 10**8)


def test_sheet_is_valid_and_names_every_file(cohort):
    assert read_sheet(cohort / "samples.tsv").num_rows == 2 * N_VIRTUAL + 4
    sheet = pd.read_csv(cohort / "samples.tsv", sep="\t")
    assert all((cohort / path).is_file() for path in sheet["path"])
    assert list(sheet["consent"]).count("no") == 1


def test_rest_and_smile_are_one_upright_person(cohort, landmarker, sface):
    embeddings = []
    for k in range(1, N_VIRTUAL + 1):
        rest, smile = (picture(cohort, f"CASE-{k:03d}-{view}.jpg") for view in ("rest", "smile"))
        (still,), (smiling,) = landmarker.detect(rest), landmarker.detect(smile)
        assert abs(still.roll) < 10, "stored turned or not, it decodes upright"
        assert smiling.blendshapes[[44, 45]].mean() > still.blendshapes[[44, 45]].mean() + 0.2
        embeddings.append((sface.embed(rest), sface.embed(smile)))
    for k, (rest, smile) in enumerate(embeddings):
        assert sface.compare(rest, smile) > recognisers()["sface"]["published_threshold"]
        others = [other for j, (other, _) in enumerate(embeddings) if j != k]
        assert max(sface.compare(rest, other) for other in others) < sface.compare(rest, smile)


def test_photographs_carry_something_to_remove(cohort):
    with Image.open(cohort / "photos" / "CASE-002-rest.jpg") as image:
        exif = image.getexif()
        assert exif[0x0112] == 6
        assert "Ben Example" in exif[0x010E]
        assert exif.get_ifd(0x8825)


def test_landscape_has_no_face(landmarker, yunet):
    image = landscape()
    assert image.dtype == np.uint8
    assert landmarker.detect(image) == []
    assert len(yunet.detect(image)) == 0
