"""The sweep of preserved areas and weights of the identity loss: what is tried, on whom, and what comes out of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
import virtual_faces

from deidlib.config import complete_config, stage_options
from deidlib.donors.bank import read_bank
from deidlib.inversion.going_on import same_donors
from deidlib.reid import tradeoff
from deidlib.reid.embeddings import Faces
from deidlib.reid.price import price_rows
from deidlib.storage import tables
from deidlib.storage.images import encode_png
from deidlib.vision.landmarks import find_landmarks

PHOTO, PATIENT = "photo0000", "patient000"


def test_the_other_areas_and_other_strengths_are_tried():
    assert tradeoff.settings_to_sweep("mouth", 0.5) == [
        ("teeth", 0.5),
        ("mouth_margins", 0.5),
        ("lower_face", 0.5),
        ("mouth", 0.0),
        ("mouth", 1.0),
    ]
    for area in ("teeth", "mouth", "lower_face"):
        for weight in (0.0, 0.7):
            points = tradeoff.settings_to_sweep(area, weight)
            assert (area, weight) not in points
            assert len(set(points)) == 5


def test_one_photograph_of_each_patient_comes_before_a_second():
    candidates = [("a", "p"), ("b", "p"), ("c", "p"), ("d", "q"), ("e", "r")]
    assert tradeoff.draw_sample(candidates, 3) == ["a", "d", "e"]
    assert tradeoff.draw_sample(candidates[::-1], 4) == ["a", "d", "e", "b"]
    assert tradeoff.draw_sample(candidates, 0) == []


def test_rates_and_the_operating_point():
    def row(preserve, score, name="sface", weight=0.5, photo="a", share=0.04):
        return {
            "preserve": preserve,
            "identity_weight": weight,
            "recogniser": name,
            "photo": photo,
            "patient": photo,
            "score": score,
            "share": share,
        }

    rows = [row("mouth", 0.1), row("mouth", 0.3, photo="b"), row("mouth", None, photo="c")]
    rows += [row("lower_face", 0.5, share=0.2), row("lower_face", 0.2, photo="b", share=0.3)]
    rows += [row("mouth", 0.7, name="dlib"), row("lower_face", 0.5, name="dlib")]
    calibration = [{"recogniser": "sface", "threshold": 0.363}, {"recogniser": "dlib", "threshold": 0.6}]
    above = {"sface": True, "dlib": False}
    found = {
        (entry["preserve"], entry["recogniser"]): entry
        for entry in tradeoff.tradeoff(rows, "mouth", 0.5, calibration, above, seed=1)
    }
    assert found["mouth", "sface"]["operating_point"]
    assert found["mouth", "sface"]["trials"] == 2, "where no face was found nothing was tried"
    assert found["mouth", "sface"]["mean_score"] == pytest.approx(0.2)
    assert (found["lower_face", "sface"]["hits"], found["lower_face", "sface"]["rate"]) == (1, 0.5)
    assert found["lower_face", "sface"]["preserved_share"] == pytest.approx(0.25)
    assert not found["lower_face", "sface"]["operating_point"]
    assert (found["mouth", "dlib"]["hits"], found["lower_face", "dlib"]["hits"]) == (0, 1)
    low, high = found["lower_face", "sface"]["ci95"]
    assert low < 0.05
    assert high > 0.95


@pytest.fixture(scope="module")
def patient(generator, landmarker, model_files, yunet, sface):
    """Tables of one smiling virtual patient and a donor, and the patient's embedding."""
    bank = read_bank()
    (face,) = virtual_faces.draw(generator, bank.w[[int(np.argmax(bank.scalars["upper_up"]))]])
    key = {"release_photo_id": PHOTO}
    height, width = face.shape[:2]
    photo = {"release_patient_id": PATIENT, "width": width, "height": height, "grey": False, "image": encode_png(face)}
    photos = tables.from_rows([key | photo | {"status": tables.OK}], tables.PHOTOS)
    config = complete_config({"cohort": "x.tsv"})
    landmarks = find_landmarks(
        photos,
        model_files("face_landmarker")["face_landmarker.task"],
        yunet,
        *(stage_options(config, stage) for stage in ("landmarks", "views")),
    )
    (code,) = virtual_faces.codes(generator, 1, seed=9)
    donor = {"attempt": 0, "w": code, "sface": sface.embed(virtual_faces.draw(generator, code[None])[0])}
    donors = tables.from_rows([key | donor | {"status": tables.OK}], tables.DONORS)
    originals = {"sface": Faces(np.array([PHOTO]), np.array([PATIENT]), sface.embed(face)[None])}
    return photos, landmarks, donors, originals


def test_every_area_is_made_and_scored_and_larger_ones_preserve_more(networks, patient, sface, monkeypatch):
    areas = [(area, 0.0) for area in ("teeth", "mouth_margins", "lower_face")]
    monkeypatch.setattr(tradeoff, "settings_to_sweep", lambda preserve, weight: areas)
    photos, landmarks, donors, originals = patient
    config = complete_config({"cohort": "x.tsv", "preset": {"inversion": {"steps": 2, "bf16": False}}})
    state = torch.random.get_rng_state()
    rows, seen = tradeoff.sweep_shard(photos, landmarks, donors, networks, [sface], originals, config)
    assert torch.equal(torch.random.get_rng_state(), state)
    score = {(row["preserve"], row["identity_weight"]): row["score"] for row in rows}
    share = {row["preserve"]: row["share"] for row in rows}
    assert share["teeth"] < share["mouth_margins"] < share["lower_face"]
    assert set(score) == set(areas)
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in score.values())
    rows = price_rows(seen, {"sface": True})
    assert {(row["preserve"], row["region"]) for row in rows} == {
        (area, region) for area in ("teeth", "lower_face") for region in ("whole", "region_only", "context_only")
    }
    assert all(row["first"] for row in rows), "of one patient alone everybody is first"
    for row in rows:
        if row["region"] == "whole":  # the one is compared with the photograph, the other with its square
            assert row["score"] == pytest.approx(score[row["preserve"], 0.0], abs=0.1)


def test_other_areas_go_on_from_what_is_released_and_other_weights_start_at_the_donor(
    networks, generator, patient, sface, monkeypatch
):
    monkeypatch.setattr(tradeoff, "settings_to_sweep", lambda preserve, weight: [("lower_face", 0.0), ("mouth", 0.0)])
    photos, landmarks, donors, originals = patient
    config = complete_config({"cohort": "x.tsv", "preset": {"inversion": {"steps": 2, "bf16": False}}})
    (code,) = virtual_faces.codes(generator, 1, seed=21)
    released = np.tile(code, (networks.generator.n_styles, 1)).reshape(1, -1)
    faces = pa.table({"release_photo_id": [PHOTO], "latent": list(released)})
    going_on = same_donors(donors, faces, {PHOTO: ()}, 0)
    made = [
        tradeoff.sweep_shard(photos, landmarks, given, networks, [sface], originals, config)
        for given in (donors, going_on)
    ]
    other, own = ([rows[k]["score"] for rows, _ in made] for k in (0, 1))
    assert other[0] != other[1]
    assert own[0] == own[1]
    (vector,) = (entry["vector"] for entry in made[1][1] if entry["shown"] == "released")
    start, donor = (sface.embed(virtual_faces.draw(generator, w[None])[0]) for w in (code, np.array(donors["w"][0])))
    assert vector @ start > vector @ donor


def test_the_releases_own_settings_are_read_from_its_images(patient, sface):
    *_, originals = patient
    vectors = np.stack([originals["sface"].vectors[0], -originals["sface"].vectors[0]])
    released = Faces(np.array([PHOTO, "another"]), np.array([PATIENT, "another"]), vectors)
    config = complete_config({"cohort": "x.tsv"})
    (row,) = tradeoff.released_rows(released, originals, sface, {PHOTO: 0.05}, config)
    assert row["score"] == pytest.approx(1)
    weight = stage_options(config, "inversion")["identity_weight"]
    assert (row["preserve"], row["identity_weight"], row["share"]) == ("mouth", weight, 0.05)
