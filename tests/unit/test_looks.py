"""Soft biometrics: what they measure, who looks alike, and that they find who is really shown."""

import numpy as np
import pytest
from virtual_faces import PATIENTS, mouth, stage_tables, summary, two_photographs_each

from deidlib.reid import looks as looks_module
from deidlib.reid.embeddings import LOOKS, Faces, Released, embed_shard, faces_of
from deidlib.reid.looks import KINDS, LOOK_ALIKES, LOOK_VALUES, LookMeter, people_looks, standardised, tone_class
from deidlib.reid.ranking import Numbers
from deidlib.reid.soft_biometrics import LOOKS_SHOWN, look_attacks
from deidlib.vision.networks import age_sex


@pytest.fixture(scope="module")
def meter(landmarker):
    return LookMeter(landmarker, age_sex())


@pytest.fixture(scope="module")
def originals(generator):
    return two_photographs_each(generator)


@pytest.fixture(scope="module")
def measured(originals, meter):
    """``measured(images)``: looks of the originals, and of images that are passed off as released."""

    def run(images):
        names = [one.photo for one in summary(len(originals))]
        released = dict(zip(names, images, strict=True))
        table = embed_shard(*stage_tables(originals), lambda photo: Released(0, released[photo]), [], meter=meter)
        return {shown: faces_of(table, LOOKS, shown) for shown in LOOKS_SHOWN}

    return run


def rates(looks):
    return {(a.name, a.region): a for a in look_attacks(looks, np.random.default_rng(1))}


def test_who_is_really_shown_is_found_and_a_stranger_is_not(measured, originals):
    shown = rates(measured(originals))
    assert shown["soft_all", "whole"].trials == 2 * PATIENTS
    assert shown["soft_all", "whole"].hits >= 2 * PATIENTS - 2
    assert shown["soft_skin", "whole"].rate > 3 * shown["soft_skin", "whole"].chance
    others = rates(measured(originals[2:] + originals[:2]))
    assert others["soft_all", "whole"].hits <= 2


def test_the_preserved_area_alone_shows_neither_pose_nor_what_lies_elsewhere(measured, originals):
    looks = measured(originals)
    whole, area = looks["square"].vectors, looks["square_region"].vectors
    assert whole.shape[1] == LOOK_VALUES
    assert np.isfinite(whole[:, KINDS["pose"]]).all()
    for kind in ("pose", "gaze"):
        assert np.isnan(area[:, KINDS[kind]]).all()
    seen = np.isfinite(area[:, KINDS["geometry"]]).mean()
    assert 0 < seen < 0.3, "the lips are most of what is seen"
    assert np.isfinite(area[:, KINDS["tone"]]).all()


def test_a_picture_without_a_face_is_unmeasured(meter):
    blank = np.full((256, 256, 3), 128, np.uint8)
    assert meter.find(blank) is None
    assert meter.look(blank, None, mouth() > 0) is None


def look_of(sex, age, tone):
    look = np.zeros(LOOK_VALUES, np.float32)
    look[KINDS["sex"]], look[KINDS["age"]], look[KINDS["tone"]] = sex, age, tone
    return look


def test_people_of_one_look_are_each_others_neighbours_and_of_one_class():
    kinds = [(0.9, 25, (70, 10, 15)), (0.1, 25, (70, 10, 15)), (0.1, 55, (35, 12, 18))]
    rng = np.random.default_rng(2)
    rows = [look_of(*kind) + 0.01 * rng.normal(size=LOOK_VALUES) for kind in kinds for _ in range(6)]
    patients = np.array([f"p{i:02d}" for i in range(18)])
    people = people_looks(Faces(patients, patients, np.array(rows, np.float32)))
    assert len(set(people.class_of(patients).tolist())) == 3
    alike = people.alike(patients, rng)
    for i, patient in enumerate(patients):
        assert len(alike[patient]) == LOOK_ALIKES
        assert all(int(other[1:]) // 6 == i // 6 for other in alike[patient])
        assert patient not in alike[patient]
    assert people.class_of(np.array(["stranger"])).tolist() == [-1]


def test_of_many_people_the_same_are_alike(monkeypatch):
    rng = np.random.default_rng(5)
    patients = np.array([f"p{i:03d}" for i in range(400)])
    rows = [look_of(rng.random(), rng.normal(40, 15), rng.normal((60, 12, 18), 5)) for _ in patients]
    compared = []
    for from_on in (401, 400):
        monkeypatch.setattr(looks_module, "TREE_FROM", from_on)
        people = people_looks(Faces(patients, patients, np.array(rows, np.float32)))
        compared.append(people.alike(patients, np.random.default_rng(6)))
    assert compared[0] == compared[1]


def test_who_was_not_measured_is_compared_with_anybody():
    people = people_looks(Faces(np.zeros(0, str), np.zeros(0, str), np.zeros((0, LOOK_VALUES), np.float32)))
    patients = np.array([f"p{i}" for i in range(9)])
    chosen = [people.alike(patients, np.random.default_rng(seed)) for seed in range(20)]
    assert all(len(others) == LOOK_ALIKES for one in chosen for others in one.values())
    assert {other for one in chosen for other in one["p0"]} == set(patients) - {"p0"}
    assert people.alike(patients[:1], np.random.default_rng(1)) == {"p0": []}


def test_tones_are_classed_by_the_typology_angle():
    assert tone_class(np.array([[80, 8, 15], [60, 10, 18], [40, 12, 18], [25, 10, 12]])).tolist() == [5, 3, 1, 0]


def test_what_jobs_counted_is_read_without_standardising_a_look():
    class Untouched:
        def __getitem__(self, rows):
            raise AssertionError("a look was read")

    ids = np.array([f"p{i}" for i in range(12)])
    patients = np.array([f"q{i // 2}" for i in range(12)])
    looks = dict.fromkeys(LOOKS_SHOWN, Faces(ids, patients, Untouched()))
    rows, first = np.arange(len(ids)), np.ones(len(ids))
    counted = Numbers(rows, first, first, first, *np.ones((4, len(ids)), np.float32))
    found = look_attacks(looks, np.random.default_rng(0), lambda pairing: counted)
    assert {(attack.hits, attack.trials) for attack in found} == {(12, 12)}


def test_every_kind_weighs_the_same_and_a_shift_of_all_released_faces_hides_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    gallery = rng.normal(size=(40, LOOK_VALUES)).astype(np.float32)
    patients = np.array([f"p{i}" for i in range(40)])
    shifted = gallery + 5 + 0.1 * rng.normal(size=gallery.shape)
    probes, originals = standardised(Faces(patients, patients, shifted), Faces(patients, patients, gallery))
    assert np.argmin(((probes.vectors[:][:, None] - originals.vectors[:][None]) ** 2).sum(axis=2), axis=1).tolist() == [
        *range(40)
    ]
    monkeypatch.setattr(looks_module, "_ROWS", 7)
    in_blocks = standardised(Faces(patients, patients, shifted), Faces(patients, patients, gallery))
    for one, other in zip((probes, originals), in_blocks, strict=True):
        assert np.array_equal(one.vectors[:], other.vectors[:])
    squares = (originals.vectors[:] ** 2).sum(axis=0)
    weights, at = [], 0
    for where in KINDS.values():
        weights.append(squares[at : at + where.stop - where.start].sum())
        at += where.stop - where.start
    assert weights == pytest.approx([40] * len(KINDS), rel=1e-3)
