"""Donors: they fit the patient, do not look like them, are one per patient, and no two patients share one."""

import hashlib

import numpy as np
import pytest

from deidlib.donors.background import clutter
from deidlib.donors.bank import BANK_FILE, Looks, drawn, read_bank
from deidlib.donors.choose import (
    Likeness,
    allowed_donors,
    choose_donors,
    draw_mixtures,
    resemblance,
)
from deidlib.donors.edit import fit_editor
from deidlib.donors.features import N_LIPS, SKIN_PATCHES
from deidlib.donors.fit import mismatch, shared_look, tone, view_of, with_record
from deidlib.donors.glasses import GLASSES, glasses_score
from deidlib.donors.headwear import HEADWEAR
from deidlib.generators import latent_prior
from deidlib.keys import keyed_rng
from deidlib.storage import tables

OPTIONS = {"pool": 24, "mix": 3, "sface_max": 0.2}
KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def bank():
    return read_bank()


@pytest.fixture(scope="module")
def editor(bank, generator):
    return fit_editor(bank, latent_prior(generator))


def likeness_of(bank, k, **changes):
    """The look of a bank entry, as if it were a patient."""
    features = {name: float(values[k]) for name, values in bank.scalars.items()}
    features |= {"geometry": bank.geometry[k], "skin": bank.skin[k]}
    return Likeness(features | changes, bank.sface[k])


def seeing(bank):
    """``see`` that takes the looks of the nearest bank entry: quicker than drawing a face, and enough here."""

    squares = np.sum(bank.w**2, axis=1)

    def see(codes):
        k = np.argmin(squares - 2 * np.asarray(codes) @ bank.w.T, axis=1)
        return looks_of(bank, k), np.ones(len(codes), bool)

    return see


def looks_of(bank, k):
    scalars = {name: values[k] for name, values in bank.scalars.items()}
    return Looks(scalars, bank.geometry[k], bank.skin[k], bank.sface[k])


def photos(*rows):
    return tables.from_rows(
        [
            {
                "release_photo_id": i,
                "release_patient_id": p,
                "photo_id": i,
                "timepoint": t,
                "grey": False,
                "status": "ok",
            }
            for i, p, t in rows
        ],
        tables.PHOTOS,
    )


def choose(bank, editor, table, likenesses, *, attempt=0, identity="per_patient", handle=None, key=KEY):
    handle = handle or list(likenesses)
    chosen = choose_donors(table, handle, likenesses, bank, editor, seeing(bank), key, attempt, identity, OPTIONS)
    return {row["release_photo_id"]: row for row in chosen.to_pylist()}


def test_shipped_bank_is_large_small_and_whole(bank):
    assert len(bank) >= 2000
    assert BANK_FILE.stat().st_size <= 12_000_000
    for values in (bank.w, bank.geometry, bank.sface, bank.dlib, *bank.scalars.values()):
        assert np.isfinite(values).all()
    assert np.allclose(np.linalg.norm(bank.sface, axis=1), 1, atol=2e-3)
    assert len(np.unique(bank.w, axis=0)) == len(bank)
    female = bank.scalars["female"] > 0.5
    assert 0.2 < female.mean() < 0.8
    assert np.ptp(bank.scalars["yaw"]) > 40


def test_an_entry_fits_itself_best(bank):
    for k in (3, 500, 1500):
        assert np.argmin(mismatch(bank, likeness_of(bank, k).features, grey=False)) == k


def test_patient_like_entries_glasses_headwear_and_second_faces_are_excluded(bank):
    patient = likeness_of(bank, 10)
    allowed = allowed_donors(bank, patient, OPTIONS["sface_max"])
    assert not allowed[10]
    assert 0.1 < np.mean(bank.scalars["glasses"] >= GLASSES) < 0.2, "about one face in seven wears glasses"
    assert (bank.scalars["glasses"][allowed] < GLASSES).all()
    assert 0.06 < np.mean(bank.scalars["headwear"] >= HEADWEAR) < 0.1, "about one face in thirteen wears headwear"
    assert (bank.scalars["headwear"][allowed] < HEADWEAR).all()
    assert 0.02 < np.mean(bank.scalars["second_face"] > 0.5) < 0.05, "beside one face in thirty stands another"
    assert (bank.scalars["second_face"][allowed] < 0.3).all()
    assert (bank.sface[allowed] @ patient.sface < OPTIONS["sface_max"]).all()


def test_impostors_come_before_look_alikes(bank):
    patient = likeness_of(bank, 10)
    similar = np.argsort(bank.sface @ patient.sface)[::-1]
    penalty = resemblance(bank.sface, patient, 0.1)
    assert penalty[10] == penalty.max()
    assert penalty[similar[:20]].mean() > 10 * penalty[similar[-500:]].mean()


def test_photographs_of_a_patient_share_the_donor_and_patients_do_not(bank, editor):
    table = photos(("a1", "a", "T0"), ("a2", "a", "T1"), ("b1", "b", "T0"))
    likenesses = {"a1": likeness_of(bank, 5), "a2": likeness_of(bank, 5, smile=0.9), "b1": likeness_of(bank, 5)}
    rows = choose(bank, editor, table, likenesses)
    assert rows["a1"]["donor_id"] == rows["a2"]["donor_id"] != rows["b1"]["donor_id"]
    assert rows["a1"]["w"] != rows["a2"]["w"], "the expression follows each photograph"
    assert abs(sum(rows["a1"]["weights"]) - 1) < 1e-6
    per_photo = choose(bank, editor, table, likenesses, identity="per_photo")
    assert len({row["donor_id"] for row in per_photo.values()}) == 3


def test_a_donor_depends_on_key_patient_and_attempt_alone(bank, editor):
    table = photos(("a1", "a", "T0"), ("b1", "b", "T0"))
    likenesses = {"a1": likeness_of(bank, 5), "b1": likeness_of(bank, 9)}
    together = choose(bank, editor, table, likenesses)["a1"]
    alone = choose(bank, editor, photos(("a1", "a", "T0")), {"a1": likenesses["a1"]})["a1"]
    assert together == alone
    assert choose(bank, editor, table, likenesses, attempt=1)["a1"]["donor_id"] != together["donor_id"]
    other_key = choose(bank, editor, table, likenesses, key=hashlib.sha256(KEY).digest())
    assert other_key["a1"]["donor_id"] != together["donor_id"]


def test_a_later_photograph_does_not_change_the_donor(bank, editor):
    before = choose(bank, editor, photos(("a1", "a", "T0")), {"a1": likeness_of(bank, 5)})["a1"]
    later = choose(
        bank,
        editor,
        photos(("a1", "a", "T0"), ("a2", "a", "T1")),
        {"a1": likeness_of(bank, 5), "a2": likeness_of(bank, 6, smile=0.8)},
    )
    assert later["a1"]["donor_id"] == before["donor_id"]
    assert later["a1"]["w"] == before["w"]


@pytest.mark.parametrize("worn", ["glasses", "headwear"])
def test_of_the_drawn_faces_the_best_is_taken(bank, editor, worn):
    """Whatever the mixtures' entries look like: what counts is what the faces they draw look like."""
    table, likenesses = photos(("a1", "a", "T0")), {"a1": likeness_of(bank, 5)}
    patient = likenesses["a1"].sface
    impostor = np.linalg.svd(patient[None])[2][1]  # at right angles to the patient
    unseen, second_face, wearer, best = 0, 1, 2, 3

    def see(codes):
        looks = looks_of(bank, np.full(len(codes), 5))
        looks.sface[[unseen, second_face, wearer, best]] = impostor
        looks.scalars.update({"glasses": np.full(len(codes), -7.0), "headwear": np.full(len(codes), -7.0)})
        looks.scalars[worn][wearer] = 3.0
        looks.scalars["second_face"] = np.zeros(len(codes))
        looks.scalars["second_face"][second_face] = 0.8
        return looks, np.arange(len(codes)) != unseen

    chosen = choose_donors(table, ["a1"], likenesses, bank, editor, see, KEY, 0, "per_patient", OPTIONS)
    (row,) = chosen.to_pylist()
    assert abs(np.array(row["sface"]) @ patient) < 1e-3
    rng = keyed_rng(KEY, "donor", "a", "0")
    fit = mismatch(bank, shared_look(likenesses["a1"].features, keyed_rng(KEY, "tone", "a")), grey=False)
    fit = fit + resemblance(bank.sface, likenesses["a1"], row["likeness"])
    allowed = allowed_donors(bank, likenesses["a1"], OPTIONS["sface_max"])
    mixtures = draw_mixtures(np.argsort(np.where(allowed, fit, np.inf), kind="stable"), rng, OPTIONS["pool"], 3)
    assert row["bank_ids"] == mixtures[best][0].tolist()

    def nothing(codes):
        return looks_of(bank, np.zeros(len(codes), int)), np.zeros(len(codes), bool)

    with pytest.raises(ValueError, match="no mixture"):
        choose_donors(table, ["a1"], likenesses, bank, editor, nothing, KEY, 0, "per_patient", OPTIONS)


def test_the_faces_drawn_do_not_depend_on_how_many_are_drawn_at_a_time(bank, generator):
    """Not even in a process that lets torch use several threads elsewhere."""
    codes = bank.w[:3]
    assert np.array_equal(drawn(codes, generator), drawn(codes, generator, 3))


def test_the_likeness_aimed_at_is_that_of_fitting_impostors(bank, editor):
    """Neither alike nor the least alike of all: over many patients, spread as impostors' likeness is."""
    table = photos(*((f"photo{k}", f"patient{k}", "T0") for k in range(80)))
    face = 0.35 * bank.sface[7] + np.linalg.svd(bank.sface[7][None])[2][1] * np.sqrt(1 - 0.35**2)  # of no generator
    look = likeness_of(bank, 7)
    patients = {f"photo{k}": Likeness(look.features, face) for k in range(80)}
    rows = choose(bank, editor, table, patients)
    aims = np.array([row["likeness"] for row in rows.values()])
    impostors = (
        bank.sface[np.argsort(mismatch(bank, shared_look(look.features, np.random.default_rng(0)), grey=False))[:256]]
        @ face
    )
    assert aims.max() <= 0.25
    assert abs(np.median(aims) - np.median(np.minimum(impostors, 0.25))) < 0.05
    assert aims.std() > 0.03
    later = choose(bank, editor, table, patients, attempt=2)
    assert np.mean([row["likeness"] for row in later.values()]) < aims.mean()


def test_donors_of_many_patients_are_distinct(bank, editor):
    table = photos(*((f"photo{k}", f"patient{k}", "T0") for k in range(60)))
    rows = choose(bank, editor, table, {f"photo{k}": likeness_of(bank, 7) for k in range(60)})
    w = np.array([row["w"] for row in rows.values()])
    gaps = editor.prior.distance(w[:, None], w[None])[~np.eye(60, dtype=bool)]
    assert gaps.min() > 0.02, "sixty patients who look alike still get sixty donors"


def test_impossible_demands_are_refused(bank, editor):
    table, likenesses = photos(("a1", "a", "T0")), {"a1": likeness_of(bank, 5)}
    with pytest.raises(ValueError, match="donors build"):
        choose_donors(
            table,
            ["a1"],
            likenesses,
            bank,
            editor,
            seeing(bank),
            KEY,
            0,
            "per_patient",
            OPTIONS | {"sface_max": -0.9},
        )
    with pytest.raises(ValueError, match="per_photo"):
        choose(bank, editor, table, likenesses, identity="shared")


def test_recorded_sex_and_age_lead(bank):
    features = likeness_of(bank, 5).features
    assert with_record(features, None, "F")["female"] == 1
    assert with_record(features, None, "M")["female"] == 0
    assert with_record(features, None, "X")["female"] == features["female"]
    assert with_record(features, 8, None)["age"] < with_record(features, 70, None)["age"]
    assert with_record(features, None, None) == features


def test_directions_move_what_they_name(bank, editor, generator, landmarker):
    """A smile and a turn asked of the regression are seen by MediaPipe in the drawn face."""
    import torch

    from deidlib.donors.bank import to_uint8

    k = int(np.argmin(mismatch(bank, likeness_of(bank, 0, yaw=0.0, smile=0.1).features, grey=False)))
    still = view_of(likeness_of(bank, k).features, jaw=False)
    del still["lips"]
    codes = [
        editor.follow(bank.w[k], still | change)
        for change in ({"smile": 0.02, "yaw": 0.0}, {"smile": 0.8, "upper_up": 0.5, "yaw": 0.0}, {"yaw": 20.0})
    ]
    with torch.no_grad():
        batch = torch.from_numpy(np.array(codes, np.float32))[:, None].expand(-1, generator.n_styles, -1)
        images = to_uint8(generator.synthesise(batch))
    rest, smile, turned = (landmarker.detect(image)[0] for image in images)
    assert smile.blendshapes[[44, 45]].mean() > rest.blendshapes[[44, 45]].mean() + 0.2
    assert turned.yaw > rest.yaw + 8


def test_glasses_come_off_and_stay_off(bank, editor, generator):
    wearers = np.argsort(-bank.scalars["glasses"])[:6]
    bare = np.array([editor.move(bank.w[k], {"glasses": -7.0}) for k in wearers])
    before, after = ([glasses_score(face) for face in drawn(w, generator)] for w in (bank.w[wearers], bare))
    assert np.median(before) > 5
    assert np.median(after) < GLASSES
    view = {"smile": 0.9, "upper_up": 0.7, "jaw_open": 0.1, "pitch": 8.0}
    score = editor.slope[editor.parts["glasses"]] @ editor.prior.whiten
    moved = np.array([editor.follow(w, view) - w for w in bare]) @ score.T
    assert moved == pytest.approx(0, abs=0.1)  # standard deviations of the bank


def test_the_background_becomes_plain_and_stays_so_and_the_skin_keeps_its_tone(bank, editor, generator):
    restless = np.argsort(-bank.scalars["clutter"])[:40:8]
    plain = np.array([editor.move(bank.w[k], {"clutter": 1.0}, held=("tone",)) for k in restless])
    before, after = (np.array([clutter(face) for face in drawn(w, generator)]) for w in (bank.w[restless], plain))
    assert (after < before - 0.2).all()
    parts = {name: editor.slope[editor.parts[name]] @ editor.prior.whiten for name in ("clutter", "tone")}
    assert (plain - bank.w[restless]) @ parts["tone"].T == pytest.approx(0, abs=0.1)  # standard deviations of the bank
    followed = np.array([editor.follow(w, {"smile": 0.9, "yaw": 10.0}) - w for w in plain])
    assert followed @ parts["clutter"].T == pytest.approx(0, abs=0.1)


def test_age_and_sex_are_shared_as_classes(bank):
    same_class = (30.5, 0.55), (39.5, 0.97)
    one, other = (
        shared_look(likeness_of(bank, 5, age=age, female=female).features, np.random.default_rng(0))
        for age, female in same_class
    )
    assert (one["age"], one["female"]) == (other["age"], other["female"]) == (35.0, 1.0)
    older = shared_look(likeness_of(bank, 5, age=41.0, female=0.4).features, np.random.default_rng(0))
    assert (older["age"], older["female"]) == (45.0, 0.0)


def test_tone_is_shared_as_a_class(bank):
    """Two patients of one class aim at one tone; their light and beard stay; the key decides where in the class."""
    features = likeness_of(bank, 5).features
    middle = (np.floor(tone(features["skin"])[:3] / [8, 4, 6]) + 0.5) * [8, 4, 6]
    skin = features["skin"] - tone(features["skin"])[:3] + middle
    patients = [features | {"skin": skin + shift} for shift in ([3.5, -1.5, 2.5], [-3.5, 1.5, -2.5])]
    one, other = (shared_look(patient, np.random.default_rng(3))["skin"] for patient in patients)
    assert tone(one) == pytest.approx(tone(other))
    assert tone(one)[3:] == pytest.approx(tone(skin)[3:])
    assert (np.abs(tone(one)[:3] - middle) <= [2, 1, 1.5]).all()
    moved = shared_look(patients[0], np.random.default_rng(4))["skin"]
    assert np.abs(tone(moved)[:3] - tone(one)[:3]).max() > 0.1
    gone = shared_look(features | {"skin": np.full((9, 3), np.nan)}, np.random.default_rng(3))["skin"]
    assert np.isnan(gone).all()


def test_of_the_skin_tone_light_and_beard_are_shared_alone(bank):
    patches = list(SKIN_PATCHES)
    skin = np.tile([60.0, 12.0, 15.0], (9, 1))
    lit, bearded, spotted = skin.copy(), skin.copy(), skin.copy()
    lit[[name.endswith("left") for name in patches], 0] += 10
    bearded[[not name.startswith(("cheek", "forehead")) for name in patches], 0] -= 20
    # Two spots that leave means and halves as they are: what tells a person's skin from others' of its tone.
    for name, change in (("cheek_left", 8), ("cheek_right", -4), ("forehead", -4)):
        spotted[patches.index(name), 1] += change
    assert tone(lit)[3] == pytest.approx(10)
    assert tone(bearded)[4] == pytest.approx(20)
    assert tone(spotted)[:3] == pytest.approx(tone(skin)[:3])
    looks = looks_of(bank, np.array([5]))
    costs = [mismatch(looks, likeness_of(bank, 5, skin=s).features, False)[0] for s in (skin, spotted, lit)]
    assert costs[0] == pytest.approx(costs[1])
    assert abs(costs[0] - costs[2]) > 0.1


def test_skin_outside_the_photograph_is_left_out():
    skin = np.tile([60.0, 12.0, 15.0], (9, 1))
    cut = skin.copy()
    cut[[0, 8]] = np.nan
    assert tone(cut) == pytest.approx(tone(skin))
    half = np.full((9, 3), np.nan)
    half[3] = 60.0, 12.0, 15.0  # the philtrum alone: below, in neither half
    assert tone(half)[:3] == pytest.approx([60.0, 12.0, 15.0])
    assert np.isnan(tone(half)[3:]).all()


def test_the_jaw_is_shared_where_the_lower_face_is_preserved_alone(bank, editor):
    """Two patients who differ below the lips get one donor's shape, unless their jaw is to be kept."""
    geometry = bank.geometry[5].copy()
    geometry[N_LIPS:] += [0, 40]
    same, other = likeness_of(bank, 5).features, likeness_of(bank, 5, geometry=geometry).features
    assert np.array_equal(mismatch(bank, same, False), mismatch(bank, other, False))
    assert not np.array_equal(mismatch(bank, same, False, jaw=True), mismatch(bank, other, False, jaw=True))
    moved = [editor.follow(bank.w[9], view_of(features, jaw)) for jaw in (False, True) for features in (same, other)]
    assert np.array_equal(moved[0], moved[1])
    assert not np.array_equal(moved[2], moved[3])
