"""The inversion stage: faces in the order of the donors, the same whatever the number of workers and parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import torch
import virtual_faces

from deidlib.config import complete_config, stage_options
from deidlib.inversion.faces import _in_order, invert_faces
from deidlib.regions.area import preserve_regions
from deidlib.storage import tables
from deidlib.storage.images import encode_png
from deidlib.vision.landmarks import find_landmarks

IDS = [f"{letter}" * 16 for letter in "abc"]


@pytest.fixture
def one_thread():
    """As the command sets it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shard(generator, model_files, yunet, sface):
    """Photographs, landmarks, regions and donors of three virtual patients."""
    codes = virtual_faces.codes(generator, 6, seed=4)
    faces = virtual_faces.draw(generator, codes[:3])
    config = complete_config({"cohort": "x.tsv"})
    photos = tables.from_rows(
        [
            {
                "release_photo_id": photo_id,
                "release_patient_id": photo_id,
                "width": face.shape[1],
                "height": face.shape[0],
                "grey": False,
                "image": encode_png(face),
                "status": tables.OK,
            }
            for photo_id, face in zip(IDS, faces, strict=True)
        ],
        tables.PHOTOS,
    )
    model_file = model_files("face_landmarker")["face_landmarker.task"]
    landmarks = find_landmarks(photos, model_file, yunet, stage_options(config, "landmarks"), config["views"])
    regions = preserve_regions(photos, landmarks, "mouth", stage_options(config, "regions"))
    drawn = virtual_faces.draw(generator, codes[3:])
    donors = tables.from_rows(
        [
            {
                "release_photo_id": photo_id,
                "attempt": 0,
                "w": w,
                "sface": sface.embed(face),
                "likeness": 0.1,
                "status": tables.OK,
            }
            for photo_id, w, face in zip(IDS, codes[3:], drawn, strict=True)
        ],
        tables.DONORS,
    )
    return photos, landmarks, regions, donors


@pytest.mark.exhaustive
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("batch", [1, 2])
def test_faces_do_not_depend_on_workers_or_parts(shard, networks, batch):
    settings = complete_config(
        {"cohort": "x.tsv", "inversion": {"batch": batch}, "preset": {"inversion": {"steps": 2}}}
    )
    settings, counted = stage_options(settings, "inversion"), []
    alone = list(invert_faces([shard], networks, settings, 1, counted.append))
    assert [made.num_rows for made in alone] == counted == {1: [1, 1, 1], 2: [2, 1]}[batch]
    parts = [tuple(table.slice(start, n) for table in shard) for start, n in ((0, 1), (1, 2))]
    several = list(invert_faces(parts, networks, settings, workers=3))
    assert pa.concat_tables(several)["release_photo_id"].to_pylist() == IDS
    assert len(alone) == len(several)
    assert all(a.equals(b) for a, b in zip(alone, several, strict=True))


def test_no_more_photographs_are_read_than_are_about_to_be_needed():
    taken = []
    items = (taken.append(k) or k for k in range(20))
    with ThreadPoolExecutor(2) as pool:
        results = _in_order(pool, lambda k: 10 * k, items, ahead=2)
        assert next(results) == 0
        assert taken == [0, 1, 2]
        assert list(results) == [10 * k for k in range(1, 20)]
