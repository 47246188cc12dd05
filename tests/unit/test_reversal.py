"""The reversal attack restores faces behind a weak anonymisation, of patients that it was not trained on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import virtual_faces

from deidlib.reid import reversal
from deidlib.reid.attack import attack_from_trials
from deidlib.reid.attacker import Attacker
from deidlib.reid.calibration import calibrate
from deidlib.reid.embeddings import Faces
from deidlib.reid.face_restoring import train

PATIENTS = 16


@pytest.fixture(scope="module")
def originals(generator):
    drawn = virtual_faces.draw(generator, virtual_faces.codes(generator, PATIENTS, seed=21))
    return np.stack([cv2.resize(face, (reversal.SIDE,) * 2, interpolation=cv2.INTER_AREA) for face in drawn])


def negative(images):
    """Weak anonymisation: brightness inverted, red and blue exchanged."""
    return np.ascontiguousarray(255 - images[..., ::-1])


def pairs_of(originals, released):
    names = [np.array([f"{what}-{i:02d}" for i in range(len(originals))]) for what in ("photo", "patient")]
    return reversal.Pairs(*names, released, originals)


@pytest.fixture(scope="module")
def restored(originals):
    return reversal.restore_unseen(pairs_of(originals, negative(originals)), steps=8, seed=5)


def test_a_weak_anonymisation_is_undone_on_unseen_patients(restored):
    before, after = restored.errors()
    assert after < 0.25 * before


def test_recognisers_find_the_patients_in_what_is_restored(restored, originals, sface, monkeypatch):
    ids = restored.pairs.photos, restored.pairs.patients
    vectors = [sface.embed(cv2.resize(image, (256, 256))) for image in originals]
    faces = dict.fromkeys(("original", "released"), Faces(*ids, np.stack(vectors)))
    rng = np.random.default_rng(0)
    calibration = calibrate("sface", True, faces["original"], None, 0.363, 1e-3, rng)
    attacker = Attacker("sface", "SFace", True, faces, None, calibration, 0.01, True, rng)
    embedded = reversal.embed_restored(restored, [sface])
    found = {a.name: a for a in reversal.reversal_attacks(attacker, restored, embedded)}
    assert found["reversal"].rate > 0.7
    assert found["reversal_rank1"].rate > 0.7
    assert found["reversal_rank1"].chance == pytest.approx(1 / 8)
    assert calibration.same(np.array([0.363]))
    assert {attack.drawn_from for attack in found.values()} == {None}
    monkeypatch.setattr(reversal, "MOST_PHOTOS", len(originals) - 1)
    drawn = reversal.reversal_attacks(attacker, restored, embedded)
    assert {attack.drawn_from for attack in drawn} == {len(originals)}
    before = embedded["sface"][1]
    hits = [vectors[list(ids[0]).index(p)] @ v >= 0.363 for p, v in zip(before.photos, before.vectors, strict=True)]
    assert np.sum(hits) < 0.3 * PATIENTS, "the recogniser alone must not see through it, or the test shows nothing"


def test_every_photograph_is_restored_by_a_network_that_did_not_see_its_patient(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (18, 16, 16, 3)).astype(np.uint8)
    patients = np.repeat([f"p{i}" for i in range(9)], 2)
    seen = {}

    def spy(released, originals, steps, seed, progress):
        seen[seed] = {image.tobytes() for image in originals}
        return lambda unseen: unseen

    monkeypatch.setattr(reversal, "train", spy)
    pairs = reversal.Pairs(np.array([f"photo-{i}" for i in range(18)]), patients, images, images)
    restored = reversal.restore_unseen(pairs, 1, 0)
    for k in (0, 1):
        attacked = {image.tobytes() for image in images[restored.half == k]}
        assert attacked
        assert not attacked & seen[k]
        assert not set(patients[restored.half == k]) & set(patients[restored.half != k])


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_state_alone(originals):
    state = torch.random.get_rng_state()
    first, second = (train(negative(originals), originals, 2, seed=1)(originals[:2]) for _ in range(2))
    other = train(negative(originals), originals, 2, seed=2)(originals[:2])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_two_networks_trained_at_a_time_are_those_trained_one_after_the_other(originals):
    pairs = pairs_of(negative(originals), originals)
    restored = reversal.restore_unseen(pairs, 2, 5)
    for k in (0, 1):
        seen = restored.half != k
        alone = train(pairs.released[seen], pairs.originals[seen], 2, 5 + k)(pairs.released[~seen])
        assert np.array_equal(restored.images[~seen], alone)


def test_too_few_patients_are_not_tried_and_it_says_so(originals):
    assert reversal.restore_unseen(pairs_of(originals[:7], originals[:7]), 1, 0) is None

    class Recogniser:
        recogniser, title, same_above = "sface", "SFace", True

        def attack(self, hits, patients, **about):
            rng = np.random.default_rng(0)
            return attack_from_trials(hits, patients, rng, recogniser="sface", region="whole", **about)

    for attack in reversal.reversal_attacks(Recogniser(), None, {}):
        assert attack.trials == 0
        assert attack.explanation.startswith("Not tried: there are fewer than 8 patients")


def test_both_photographs_are_brought_to_one_frame():
    """A square cut out of a photograph lies, once aligned, where the whole photograph has it."""
    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.integers(0, 255, (300, 260, 3)).astype(np.uint8), (0, 0), 4)
    matrix = np.array([[0.15, 0.01, 40.0], [-0.01, 0.15, 60.0]])
    left, top, side = 30, 45, 170
    a, b = reversal.aligned_pair(photo, photo[top : top + side, left : left + side], matrix, left, top)
    assert np.abs(a.astype(int) - b)[8:-8, 8:-8].max() <= 1
