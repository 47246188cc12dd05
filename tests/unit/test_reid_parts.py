"""Calibration, search, ranks and side channels, on numbers."""

import dataclasses

import numpy as np
import pytest
from virtual_faces import summary

from deidlib import config
from deidlib.models import recognisers
from deidlib.reid import side_channels
from deidlib.reid.calibration import calibrate, det_curve, threshold_at
from deidlib.reid.embeddings import Faces, faces_of
from deidlib.reid.identification import open_set, search, search_among
from deidlib.reid.ranking import Pairing, compare
from deidlib.reid.search import nearest
from deidlib.reid.suite import Evidence, _summary, role_of
from deidlib.reid.verification import best_impostor, best_of_patient
from deidlib.storage import tables


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def unit(rng, *shape):
    x = rng.standard_normal(shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def faces(vectors, patients, photos=None):
    photos = np.array([f"p{i}" for i in range(len(vectors))]) if photos is None else np.asarray(photos)
    return Faces(photos, np.asarray(patients, str), np.asarray(vectors, np.float32))


@pytest.mark.parametrize("same_above", [True, False])
@pytest.mark.parametrize("block", [7, 1000])
def test_search_in_blocks_agrees_with_all_pairs(rng, same_above, block):
    probes, gallery = unit(rng, 23, 16), unit(rng, 50, 16)
    all_pairs = probes @ gallery.T if same_above else np.linalg.norm(probes[:, None] - gallery[None], axis=2)
    order = np.argsort(-all_pairs if same_above else all_pairs, axis=1)[:, :5]
    scores, entries = nearest(probes, gallery, 5, same_above, gallery_block=block)
    assert np.array_equal(entries, order)
    assert scores == pytest.approx(np.take_along_axis(all_pairs, order, axis=1), abs=1e-5)
    assert nearest(probes, gallery, 500, same_above, block)[0].shape == (23, 50)


@pytest.mark.parametrize("same_above", [True, False])
def test_ranks_agree_with_their_definition(rng, same_above):
    originals = faces(unit(rng, 40, 8), np.repeat(np.arange(20), 2))
    probes = faces(unit(rng, 40, 8), np.repeat(np.arange(20), 2))
    crowd = unit(rng, 30, 8)
    gallery = np.concatenate([originals.vectors, crowd])
    found = search(probes, originals, crowd, same_above)
    for i in range(40):
        alike = gallery @ probes.vectors[i]  # unit vectors: the nearest is the most alike
        mates = np.flatnonzero(originals.patients == probes.patients[i])
        impostors = np.delete(alike, mates)
        assert found.ranks[i] == 1 + np.count_nonzero(impostors > alike[mates].max())
    assert found.gallery == 70
    # of 70 entries 2 are the patient's: the first is one of them with 2/70
    assert found.chance(1) == pytest.approx(2 / 70)
    assert found.chance(70) == 1.0
    own_out = search(probes, originals, None, same_above, drop_own=True)
    assert own_out.gallery == 39
    assert own_out.chance(1) == pytest.approx(1 / 39)


@pytest.mark.parametrize("same_above", [True, False])
@pytest.mark.parametrize("drop_own", [True, False])
def test_in_a_gallery_of_more_than_20_000_ranks_agree_with_sorting(rng, same_above, drop_own):
    originals = faces(unit(rng, 20_500, 16), np.repeat(np.arange(10_250), 2))
    near = originals.vectors[:60] + 0.8 * unit(rng, 60, 16)
    probes = faces(near / np.linalg.norm(near, axis=1, keepdims=True), np.repeat(np.arange(30), 2))
    found = search(probes, originals, None, same_above, drop_own)
    scores, entries = nearest(probes.vectors, originals.vectors, len(originals), same_above)
    for i in range(60):
        own = originals.photos[entries[i]] == probes.photos[i]
        mate = originals.patients[entries[i]] == probes.patients[i]
        first = int(np.flatnonzero(mate & ~(own & drop_own))[0])
        assert found.ranks[i] == 1 + np.count_nonzero(~mate[:first])
        assert found.mate[i] == pytest.approx(scores[i, first], abs=2e-6)
        assert found.impostor[i] == pytest.approx(scores[i, ~mate][0], abs=2e-6)
    curve, chance = found.cmc()
    assert curve[-1] == [20_500 - drop_own, 1.0] == chance[-1]


def test_numpy_integers_are_taken_as_counts(rng):
    assert nearest(unit(rng, 30, 8), unit(rng, 40, 8), np.int64(3), True)[1].shape == (30, 3)


def impostors(probes, gallery, same_above=True):
    pairing = Pairing("", probes, gallery, same_above, ranked=False)
    return best_impostor(pairing, compare(pairing))


@pytest.mark.parametrize("same_above", [True, False])
def test_the_most_alike_stranger_agrees_with_all_pairs(rng, same_above):
    a, b = faces(unit(rng, 30, 8), range(30)), faces(unit(rng, 40, 8), range(40))
    best = impostors(a, b, same_above)
    pairs = a.vectors @ b.vectors.T if same_above else np.linalg.norm(a.vectors[:, None] - b.vectors[None], axis=2)
    np.fill_diagonal(pairs, -np.inf if same_above else np.inf)
    assert best.scores == pytest.approx(pairs.max(axis=1) if same_above else pairs.min(axis=1), abs=1e-6)
    assert list(best.compared) == [39] * 30


def test_a_patient_with_one_photograph_has_no_other_to_be_found_by(rng):
    one = faces(unit(rng, 5, 8), range(5))
    assert len(search(one, one, None, True, drop_own=True).ranks) == 0
    assert len(best_of_patient(one, one, True, own=False)) == 0
    assert best_of_patient(one, one, True, own=True).scores == pytest.approx(np.ones(5))


def test_impostors_are_never_the_patient(rng):
    twins = unit(rng, 3, 8)
    both = faces(np.repeat(twins, 2, axis=0), np.repeat(np.arange(3), 2))
    best = impostors(both, both)
    assert max(best.scores) < 0.999
    assert list(best.compared) == [4] * 6
    assert len(impostors(both, faces(twins[:0], []))) == 0


def test_open_set_keeps_its_false_positive_rate(rng):
    originals, probes = faces(unit(rng, 300, 8), range(300)), faces(unit(rng, 300, 8), range(300))
    found = search(probes, originals, None, True)
    hits, threshold = open_set(found, 0.1, True)
    assert np.mean(found.impostor >= threshold) <= 0.1
    assert hits.mean() < 0.05
    hits, _ = open_set(search(originals, originals, None, True), 0.01, True)
    assert hits.all()


@pytest.mark.parametrize("same_above", [True, False])
def test_threshold_has_the_stated_false_match_rate(rng, same_above):
    scores = rng.normal(size=20_000)
    threshold = threshold_at(scores, 0.001, same_above)
    rate = np.mean(scores >= threshold if same_above else scores <= threshold)
    assert 0.0009 < rate <= 0.001


def test_source_of_the_calibration_follows_the_pairs(rng):
    few, many = faces(unit(rng, 30, 8), range(30)), faces(unit(rng, 260, 8), range(260))
    synthetic = unit(rng, 300, 8)
    assert calibrate("r", True, many, synthetic, None, 0.001, rng).source == "cohort"
    assert calibrate("r", True, few, synthetic, None, 0.001, rng).source == "bank"
    assert calibrate("r", True, few, None, 0.9, 0.001, rng).source == "published"
    with pytest.raises(ValueError, match="published_threshold"):
        calibrate("r", True, few, None, None, 0.001, rng)


@pytest.mark.parametrize(("same_above", "published"), [(True, 0.2), (False, 1.2)])
def test_a_calibration_on_lookalikes_never_hides_matches(rng, same_above, published):
    alike = unit(rng, 300, 8) * 0.2 + 1
    alike = (alike / np.linalg.norm(alike, axis=1, keepdims=True)).astype(np.float32)
    found = calibrate("r", same_above, faces(unit(rng, 30, 8), range(30)), alike, published, 0.001, rng)
    assert found.source == "bank"
    assert found.threshold == published
    assert "no match is hidden" in found.note()


def test_det_curve_falls_as_it_should(rng):
    curve = np.array(det_curve(rng.normal(2, 1, 500), rng.normal(0, 1, 5000), True))
    assert (np.diff(curve[:, 0]) < 0).all()
    assert (np.diff(curve[:, 1]) >= 0).all()
    # two normal distributions two deviations apart: at an FMR of 0.1, FNMR is Phi(1.2816 - 2)
    assert np.interp(0.1, curve[::-1, 0], curve[::-1, 1]) == pytest.approx(0.236, abs=0.06)
    assert det_curve(np.zeros(0), rng.normal(size=5), True) == []


def test_an_order_that_follows_the_sheet_is_seen(rng):
    photos = summary(40)
    innocent, *_ = side_channels.order_attacks(photos, rng)
    assert innocent.rate < 0.2
    sorted_ = [dataclasses.replace(photo, row=i) for i, photo in enumerate(photos)]
    assert side_channels.order_attacks(sorted_, rng)[0].rate == 1.0
    timed = [dataclasses.replace(photo, time=float(photo.row)) for photo in photos]
    assert side_channels.order_attacks(timed, rng)[1].rate == 1.0
    at_once = [dataclasses.replace(photo, time=3.0) for photo in photos]
    assert side_channels.order_attacks(at_once, rng)[1].hits == 0


def test_sizes_and_hashes_that_differ_betray_the_file(rng):
    photos = [dataclasses.replace(photo, side=400 + i) for i, photo in enumerate(summary(30))]
    assert side_channels.size_attack(photos, rng).rate == 1.0
    assert side_channels.size_attack(summary(30), rng).rate < 0.3
    bits = rng.integers(0, 2, (30, 64)).astype(np.float32)
    assert side_channels.hash_attack(faces(bits, range(30)), faces(bits, range(30)), rng).rate == 1.0


def test_files_that_hold_more_than_pixels_or_were_not_looked_at_count(rng):
    photos = summary(3)
    photos = [photos[0], dataclasses.replace(photos[1], clean=False), dataclasses.replace(photos[2], clean=None)]
    assert side_channels.metadata_attack(photos, rng).hits == 2


def test_published_numbers_that_follow_from_the_original_are_a_key(rng):
    """Sizes of the core that differ, or a likeness in full precision, find every row; what is shown anyway does not."""
    photos = [
        dataclasses.replace(one, numbers={"core_pixels": 900.0 + i, "width": 256.0})
        for i, one in enumerate(summary(30))
    ]

    def attack(published, similarities=None):
        shown = [dataclasses.replace(one, published=published(one, i)) for i, one in enumerate(photos)]
        return side_channels.published_numbers_attack(shown, similarities or {}, rng)

    assert attack(lambda one, i: {"core_pixels": one.numbers["core_pixels"]}).rate == 1.0
    nothing = attack(lambda one, i: {"width": 256.0, "attempt": 0.0})
    assert nothing.hits <= 7
    assert nothing.chance == pytest.approx(2 / 30)
    originals = faces(unit(rng, 30, 8), [one.patient for one in photos], [one.photo for one in photos])
    released = dataclasses.replace(originals, vectors=unit(rng, 30, 8))
    by = side_channels.Similarity(released, originals, True)
    best = [by.to_patients(one.photo, [one.patient])[0] for one in photos]
    found = attack(lambda one, i: {"sface_cosine": float(np.float32(best[i]))}, {"sface_cosine": by})
    assert found.rate == 1.0
    assert attack(lambda one, i: {"sface_cosine": float("nan")}, {"sface_cosine": by}).hits <= 7


@pytest.mark.parametrize("same_above", [True, False])
@pytest.mark.parametrize("drop_own", [True, False])
def test_a_search_among_few_agrees_with_its_definition(rng, same_above, drop_own):
    originals = faces(unit(rng, 40, 8), np.repeat(np.arange(20), 2))
    probes = faces(unit(rng, 40, 8), np.repeat(np.arange(20), 2))
    others = {str(p): [str(q) for q in rng.permutation(20) if q != p][:4] for p in range(19)}
    tried = search_among(probes, originals, others, same_above, drop_own)
    assert sorted(set(tried.patients)) == sorted(others), "who has no others is not tried"
    for photo, patient, hit, chance in zip(tried.photos, tried.patients, tried.hits, tried.chance, strict=True):
        row = probes.photos.tolist().index(photo)
        alike = originals.vectors @ probes.vectors[row]
        mine = (originals.patients == patient) & ~((originals.photos == photo) & drop_own)
        theirs = np.isin(originals.patients, others[patient])
        assert hit == (alike[mine].max() >= alike[theirs].max())
        assert chance == pytest.approx(mine.sum() / (mine.sum() + theirs.sum()))


def test_thresholds_by_people_of_the_same_look_are_stricter_where_they_are_more_alike(rng):
    centres = unit(rng, 2, 16)
    vectors = centres[np.arange(120) % 2] + 0.7 * unit(rng, 120, 16)
    originals = faces(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), range(120))
    found = calibrate("r", True, originals, None, None, 0.01, rng, np.arange(120) % 2)
    assert found.look.pairs == 2 * 60 * 59 // 2
    assert found.look.threshold > found.threshold
    few = calibrate("r", True, originals, None, None, 0.01, rng, np.where(np.arange(120) < 10, 0, -1))
    assert (few.look.pairs, few.look.threshold) == (45, None)


def test_photographs_without_a_new_person_are_no_shared_donor():
    """Two patients on region_only have no donor, and what is released of them need hold no face."""
    photos = [
        side_channels.Photo("a1", "a", 2, True, donor="d1"),
        side_channels.Photo("b1", "b", 3, True, generated=False),
        side_channels.Photo("c1", "c", 4, True, generated=False),
    ]
    summary = _summary(Evidence(photos, list, {}, {}, {}, None), 0)
    assert summary["shared_donors"] == 0
    assert summary["photographs"] == 3
    photos[1] = side_channels.Photo("b1", "b", 3, True)
    assert _summary(Evidence(photos, list, {}, {}, {}, None), 0)["shared_donors"] == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e30])
def test_an_embedding_that_gives_no_finite_score_counts_as_missing(rng, broken):
    """A score of NaN is below every threshold: it would pass for "not recognised"."""
    vectors = unit(rng, 4, 8)
    vectors[2, 3] = broken
    rows = [
        {"release_photo_id": f"p{i}", "release_patient_id": f"a{i}", "shown": "released", "recogniser": "dlib"}
        | {"embedding": vector}
        for i, vector in enumerate(vectors)
    ]
    found = faces_of(tables.from_rows(rows, tables.EMBEDDINGS), "dlib", "released")
    assert (list(found.photos), found.missing) == (["p0", "p1", "p3"], 1)
    assert np.isfinite(found.vectors @ found.vectors.T).all()


def test_who_led_the_run_is_no_witness():
    """The part of a recogniser follows from the config; the registry says the same of the defaults."""
    options = config.stage_options(config.complete_config({"cohort": "samples.tsv"}), "inversion")
    for name, about in recognisers().items():
        assert role_of(name, options) == about["role"]
        assert role_of(name, options | {"identity_led_by": [name]}) == "identity_loss"
        assert role_of(name, options | {"identity_led_by": [name], "identity_weight": 0.0}) == "judge"
