"""Routes: which photograph meets the generator, what the others release, and what the gate asks of each."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shard_tables import CONFIG, MODELS, Spec, ids, write_private, write_release
from test_checks import BOUNDS
from test_checks import GOOD as WITH_FACE
from typer.testing import CliRunner

from deidlib import cli, config, keys
from deidlib.blending.masking import keep_core, mask_photos, outside_is_neutral
from deidlib.checks.gate import check_photos
from deidlib.contract.checks import TABLE, failed_checks, not_applicable
from deidlib.contract.routes import GENERATE, INTRAORAL, NEUTRAL, REGION_ONLY, ROUTES, choose_route, most_faces
from deidlib.demo import landscape
from deidlib.donors.bank import read_bank, to_uint8
from deidlib.donors.edit import fit_editor
from deidlib.generators import latent_prior
from deidlib.outcomes.attempts import failing
from deidlib.regions.area import cut_region, preserve_regions
from deidlib.regions.text import hold_text
from deidlib.release import verify_release
from deidlib.release.reading import read_index
from deidlib.report.page import build_audit
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png, pixels_sha256
from deidlib.storage.reasons import text_of
from deidlib.vision.alignment import FACE_OVAL, LIPS_INNER
from deidlib.vision.face_search import FaceSearch
from deidlib.vision.landmarks import find_landmarks

VIEWS = config.complete_config({"cohort": "samples.tsv"})["views"]
LANDMARK_OPTIONS = {"max_yaw": 35, "min_inter_ocular": 32}
REGION_OPTIONS = {"margin": 0.06, "band": 0.2, "min_pixels": 256}
NOT_APPLICABLE = [
    "sface_cosine",
    "dlib_distance",
    "second_face",
    "survival",
    "seam",
    "mouth_shift",
    "latent_distance",
    "realism",
]


@pytest.fixture(scope="module")
def patient(generator, landmarker):
    """A virtual patient: ``front`` with open lips, ``side`` (head turned by 50°), and ``teeth``, cut and enlarged."""
    editor = fit_editor(read_bank(), latent_prior(generator))
    rng = np.random.default_rng(5)
    with torch.no_grad():
        w = generator.map(torch.from_numpy(rng.standard_normal((1, 512)).astype(np.float32)))[0].double().numpy()
    w = editor.prior.mean + 0.7 * (w - editor.prior.mean)
    smile = {"yaw": 0.0, "pitch": 2.0, "smile": 0.85, "upper_up": 0.6, "jaw_open": 0.03, "pucker": 0.0}
    codes = np.array([editor.follow(w, smile), editor.follow(w, {"yaw": 55.0})], np.float32)
    with torch.no_grad():
        images = generator.synthesise(torch.from_numpy(codes)[:, None].expand(-1, generator.n_styles, -1))
    front, side = to_uint8(images)
    left, top, width, height = cv2.boundingRect(landmarker.detect(front)[0].points[LIPS_INNER])
    teeth = cv2.resize(front[top : top + height, left : left + width], (600, 400), interpolation=cv2.INTER_CUBIC)
    return {"front": front, "side": side, "teeth": teeth}


def photos_table(*rows):
    """``tables.PHOTOS`` of (image, view) or (image, view, mask)."""
    cells = []
    for number, (image, view, *mask) in enumerate(rows):
        cells.append(
            {
                "release_photo_id": f"p{number}",
                "release_patient_id": "patient",
                "view": view,
                "image": encode_png(image),
                "mask": encode_png(mask[0]) if mask else None,
                "width": image.shape[1],
                "height": image.shape[0],
                "pixels_sha256": pixels_sha256(image),
                "status": tables.OK,
            }
        )
    return tables.from_rows(cells, tables.PHOTOS)


@pytest.fixture(scope="module")
def stages(model_files, yunet, text_search):
    """``stages(photos, preserve)``: tables of landmarks, regions and masked photographs."""

    def run(photos, preserve="mouth", views=VIEWS):
        model = model_files("face_landmarker")["face_landmarker.task"]
        landmarks = find_landmarks(photos, model, yunet, LANDMARK_OPTIONS, views)
        regions = preserve_regions(photos, landmarks, preserve, REGION_OPTIONS)
        regions = hold_text(photos, regions, text_search)
        return landmarks, regions, mask_photos(photos, regions, 0)

    return run


def outcome(table):
    return [(row["route"], row["status"], row["reason"]) for row in table.to_pylist()]


# ---- the decision ----


def test_every_view_has_the_documented_route_and_what_is_not_named_is_refused():
    routes = {view: choose_route(view, False, VIEWS) for view in (*VIEWS, None)}
    assert routes == {
        "frontal_rest": GENERATE,
        "frontal_smile": GENERATE,
        "three_quarter": GENERATE,
        "profile": REGION_ONLY,
        "intraoral": INTRAORAL,
        "not_stated": GENERATE,
        None: GENERATE,
    }
    assert choose_route("from_above", False, VIEWS) is None
    assert choose_route("profile", False, {}) is None
    assert choose_route("profile", False, VIEWS | {"profile": "refuse"}) is None


def test_a_mask_bounds_what_an_intraoral_photograph_shows():
    assert choose_route("intraoral", True, VIEWS) == REGION_ONLY
    assert choose_route("frontal_smile", True, VIEWS) == GENERATE


# ---- what landmarks let through ----


def lying(image):
    return np.ascontiguousarray(np.rot90(image))


def upside_down(image):
    return np.ascontiguousarray(image[::-1, ::-1])


def far_off(image):
    scene = landscape(900)
    scene[500:700, 300:500] = cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA)
    return scene


def close_up(image):
    return np.ascontiguousarray(image[330:900, 230:800])


@pytest.mark.parametrize(
    ("head", "picture"),
    [("side", np.copy), ("side", lying), *(("front", p) for p in (lying, upside_down, far_off, close_up))],
)
def test_a_face_labelled_intraoral_is_quarantined(patient, stages, picture, head):
    landmarks, _, masked = stages(photos_table((picture(patient[head]), "intraoral")))
    assert outcome(landmarks) == [(INTRAORAL, "quarantined", "face_in_intraoral")]
    assert len(masked) == 0


def test_the_reason_of_a_turned_head_names_the_profile_and_a_profile_is_released(patient, stages):
    side = patient["side"]
    landmarks, _, masked = stages(photos_table((side, "three_quarter"), (side, None), (side, "profile")))
    assert outcome(landmarks) == [
        (GENERATE, "quarantined", "yaw_too_large"),
        (GENERATE, "quarantined", "yaw_too_large"),
        (REGION_ONLY, "ok", None),
    ]
    assert "profile" in text_of("yaw_too_large")
    assert masked["release_photo_id"].to_pylist() == ["p2"]


def test_a_profile_without_a_face_needs_a_mask_and_a_refused_view_says_so(patient, stages):
    hidden = landscape(400)
    mask = np.zeros((400, 400), np.uint8)
    mask[100:160, 200:300] = 255
    rows = (hidden, "profile"), (hidden, "profile", mask), (patient["front"], "frontal_rest")
    landmarks, regions, _ = stages(photos_table(*rows), views=VIEWS | {"frontal_rest": "refuse"})
    assert outcome(landmarks) == [
        (REGION_ONLY, "quarantined", "mask_needed"),
        (REGION_ONLY, "ok", None),
        (None, "quarantined", "view_refused"),
    ]
    (region,) = regions.to_pylist()
    assert (region["method"], region["core_pixels"]) == ("mask", 60 * 100)
    assert region["crop_side"] < 200


# ---- what is made ----


@pytest.mark.parametrize("preserve", ["teeth", "mouth", "lower_face"])
@pytest.mark.parametrize("head", ["front", "side"])
def test_region_only_shows_the_area_and_not_one_pixel_more(patient, stages, head, preserve):
    """Also of a frontal photograph that the sheet calls a profile."""
    photos = photos_table((patient[head], "profile"))
    _, regions, masked = stages(photos, preserve)
    (region,), row = regions.to_pylist(), next(iter(masked.to_pylist()), None)
    if region["status"] != tables.OK:  # closed lips hold no teeth
        assert (head, preserve) == ("side", "teeth")
        return
    crop, _ = cut_region(patient[head], region)
    core, result = decode_png(region["core"]) > 0, decode_png(row["image"])
    assert region["method"] == preserve
    assert result.shape == (region["crop_side"], region["crop_side"], 3)
    assert (result[core] == crop[core]).all()
    assert (result[~core] == NEUTRAL).all()
    assert not decode_png(region["band"]).any()
    assert core.mean() < 0.25


def test_the_lower_face_of_a_turned_head_holds_the_whole_mouth(patient, stages):
    photos = photos_table((patient["side"], "profile"))
    cores = [decode_png(stages(photos, preserve)[1]["core"].to_pylist()[0]) > 0 for preserve in ("lower_face", "mouth")]
    lips = cv2.erode(cores[1].astype(np.uint8), None, iterations=24) > 0  # without the margin
    assert lips.any()
    assert (cores[0] >= lips).all()


def test_intraoral_is_the_whole_photograph(patient, intraoral):
    _, regions, masked = intraoral
    assert outcome(regions) == [(INTRAORAL, "ok", None)]
    (region,) = regions.to_pylist()
    assert (region["method"], region["core_pixels"]) == ("whole", 400 * 600)
    np.testing.assert_array_equal(decode_png(masked["image"].to_pylist()[0]), patient["teeth"])


def test_only_the_first_attempt_makes_them(intraoral):
    photos, regions, _ = intraoral
    assert mask_photos(photos, regions, 1).num_rows == 0


crops = hnp.arrays(np.uint8, (7, 7, 3))
cores = hnp.arrays(np.uint8, (7, 7), elements=st.sampled_from([0, 255]))


@given(crop=crops, core=cores, place=st.integers(0, 48), step=st.integers(1, 255), channel=st.integers(0, 2))
def test_one_value_beyond_the_core_is_seen(crop, core, place, step, channel):
    result = keep_core(crop, core)
    assert outside_is_neutral(result, core)
    y, x = divmod(place, 7)
    result[y, x, channel] = (int(result[y, x, channel]) + step) % 256
    assert outside_is_neutral(result, core) == (core[y, x] > 0)


# ---- the gate ----

NO_FACE = {
    "sface_cosine": None,
    "dlib_distance": None,
    "faces_yunet": 0,
    "faces_mediapipe": 0,
    "faces_dlib": 0,
    "core_equal": True,
    "metadata_free": True,
    "text_free": True,
}
GOOD = {REGION_ONLY: NO_FACE | {"outside_neutral": True}, INTRAORAL: NO_FACE}
BAD = {"sface_cosine": 0.4, "dlib_distance": 0.5} | dict.fromkeys(("faces_yunet", "faces_mediapipe", "faces_dlib"), 1)
FACELESS = ["sface_cosine", "dlib_distance"]


def gate(values: dict, route: str | None, faceless: list[str], method: str = "mouth") -> list[str]:
    row = {**values, "route": route, "not_applicable": not_applicable(route, faceless)}
    return failed_checks(row, BOUNDS, method)


@pytest.mark.parametrize("route", list(GOOD))
def test_a_picture_without_a_face_passes_and_says_what_did_not_apply(route):
    assert gate(GOOD[route], route, FACELESS) == []
    assert set(not_applicable(route, FACELESS)).isdisjoint(set(GOOD[route]) - set(FACELESS))
    assert set(NOT_APPLICABLE) <= set(not_applicable(route, FACELESS))


@pytest.mark.parametrize(("route", "name"), [(route, name) for route, good in GOOD.items() for name in good])
@pytest.mark.parametrize("kind", ["out of bounds", "not run"])
def test_each_check_of_a_route_fails_by_itself(route, name, kind):
    value = None if kind == "not run" else BAD.get(name, False)
    faceless = [other for other in FACELESS if other != name]
    unexcused = {check.name for check in TABLE if check.excused_by == name}  # a face is there, and no score of it
    assert set(gate(GOOD[route] | {name: value}, route, faceless)) == {name} | unexcused


def test_a_recogniser_that_finds_a_face_is_decided_by_its_score():
    values = NO_FACE | {"sface_cosine": 0.1, "outside_neutral": True}
    assert gate(values, REGION_ONLY, ["dlib_distance"]) == []
    assert "sface_cosine" not in not_applicable(REGION_ONLY, ["dlib_distance"])


def test_a_lower_face_may_look_like_one_face_and_nothing_else_may():
    one_face = NO_FACE | {"outside_neutral": True, "faces_mediapipe": 1}
    two_faces = one_face | {"faces_mediapipe": 2}
    assert most_faces("lower_face") == 1
    assert {most_faces(method) for method in ("teeth", "mouth", "mask", "whole", None)} == {0}
    assert gate(one_face, REGION_ONLY, FACELESS, "lower_face") == []
    assert gate(two_faces, REGION_ONLY, FACELESS, "lower_face") == ["faces_mediapipe"]
    assert gate(one_face, REGION_ONLY, FACELESS) == ["faces_mediapipe"]


@given(missing=st.sets(st.sampled_from(sorted({check.name for check in TABLE}))), route=st.sampled_from(ROUTES))
def test_outcomes_hold_back_what_the_gate_would_whatever_the_row_says(missing, route):
    """A row that says it passed, with values missing, does not: on no route."""
    good = GOOD.get(route, WITH_FACE) | {"route": route, "not_applicable": not_applicable(route, FACELESS)}
    row = good | dict.fromkeys(missing)
    expected = missing & {check.name for check in TABLE if route in check.routes}
    if route != GENERATE:
        kept = {check.name for check in TABLE if check.excused_by and row.get(check.excused_by) == 0}
        expected = (expected | set(FACELESS)) - kept
    assert set(failed_checks(row, BOUNDS)) == expected


def test_an_unknown_route_and_a_generated_face_are_held_to_every_check():
    every = [check.name for check in TABLE if GENERATE in check.routes]
    assert gate({}, None, FACELESS) == gate({}, GENERATE, FACELESS) == every


@pytest.fixture(scope="module")
def profile(patient, stages):
    photos = photos_table((patient["side"], "profile"))
    return photos, *stages(photos)[1:]


@pytest.fixture(scope="module")
def intraoral(patient, stages):
    photos = photos_table((patient["teeth"], "intraoral"))
    return photos, *stages(photos)[1:]


@pytest.fixture(scope="module")
def judged(sface, dlib_resnet, yunet, landmarker, realism, text_search):
    """``judged(made, change)``: the gate's row of a photograph that was made, after ``change`` of its result."""

    def run(made, change=lambda image: image):
        photos, regions, masked = made
        (row,) = masked.to_pylist()
        row["image"] = encode_png(change(decode_png(row["image"]).copy()))
        verdicts = check_photos(
            photos,
            regions,
            tables.from_rows([row], tables.BLENDED),
            tables.FACES.empty_table(),
            {"sface": sface, "dlib": dlib_resnet},
            {"yunet": yunet, "mediapipe": landmarker, "text": text_search},
            FaceSearch(yunet, landmarker),
            realism,
            BOUNDS,
        )
        return verdicts.to_pylist()[0]

    return run


@pytest.mark.parametrize("route", [REGION_ONLY, INTRAORAL])
def test_a_good_result_passes(profile, intraoral, judged, route):
    row = judged(profile if route == REGION_ONLY else intraoral)
    assert (row["route"], row["failed"], row["passed"]) == (route, [], True)
    assert (row["faces_yunet"], row["faces_mediapipe"], row["faces_dlib"]) == (0, 0, 0)
    assert row["outside_neutral"] is (True if route == REGION_ONLY else None)
    assert set(NOT_APPLICABLE) <= set(row["not_applicable"])
    assert all(row[name] is None for name in row["not_applicable"])


def test_a_recogniser_that_lost_a_face_which_its_detector_saw_is_not_excused(patient, stages, judged):
    """A face that lies on its side, laid bare by a mask: the recogniser finds it in no other turn."""
    front = lying(patient["front"])
    mask = np.zeros(front.shape[:2], np.uint8)
    mask[100:900, 150:900] = 255
    photos = photos_table((front, "profile", mask))
    row = judged((photos, *stages(photos)[1:]))
    assert row["faces_yunet"] == 1
    assert {"sface_cosine", "faces_yunet"} <= set(row["failed"])


def test_a_pixel_of_the_original_beyond_the_area_is_refused(profile, judged):
    def leak(image):
        image[3, 5] = (201, 160, 140)
        return image

    row = judged(profile, leak)
    assert row["failed"] == ["outside_neutral"]


def test_a_changed_pixel_of_an_intraoral_photograph_is_refused(intraoral, judged):
    row = judged(intraoral, lambda image: image ^ np.uint8(1))
    assert row["failed"] == ["core_equal"]


def test_a_mask_that_lays_the_face_bare_is_refused(patient, stages, judged, landmarker):
    front = patient["front"]
    mask = np.zeros(front.shape[:2], np.uint8)
    cv2.fillPoly(mask, [landmarker.detect(front)[0].points[FACE_OVAL].astype(int)], 255)
    photos = photos_table((front, "profile", mask))
    row = judged((photos, *stages(photos)[1:]))
    assert {"sface_cosine", "faces_yunet", "faces_mediapipe"} <= set(row["failed"])
    assert row["sface_cosine"] > BOUNDS["sface_max"]


def test_the_gate_looks_for_a_face_itself(patient, intraoral, judged):
    """Were a face to get past the landmarks stage: the result is searched, whatever that stage said."""
    side = lying(patient["side"])
    row = judged(intraoral, lambda image: cv2.resize(side, image.shape[1::-1]))
    assert {"faces_yunet", "core_equal"} <= set(row["failed"])


# ---- attempts, release and report ----


def test_what_has_no_generated_face_is_never_tried_again():
    rows = [
        {"release_photo_id": route, "route": route, "passed": False} for route in (GENERATE, REGION_ONLY, INTRAORAL)
    ]
    assert failing(tables.from_rows(rows, tables.CHECKS))["release_photo_id"].to_pylist() == [GENERATE]


def test_donors_are_chosen_for_generated_faces_alone(tmp_path):
    for schema in ("PHOTOS", "LANDMARKS"):
        tables.write(getattr(tables, schema).empty_table(), tmp_path / schema, getattr(tables, schema))
    regions = [{"release_photo_id": route, "route": route, "status": tables.OK} for route in (REGION_ONLY, INTRAORAL)]
    tables.write(tables.from_rows(regions, tables.REGIONS), tmp_path / "REGIONS", tables.REGIONS)
    keys.write_new_key(tmp_path / "key")
    given = [f"--{name.lower()}={tmp_path / name}" for name in ("PHOTOS", "LANDMARKS", "REGIONS")]
    command = ["donors", "choose", *given, f"--out={tmp_path / 'DONORS'}", f"--key={tmp_path / 'key'}"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert tables.read(tmp_path / "DONORS", tables.DONORS).num_rows == 0


FAILS = {"sface_cosine": 0.5, "failed": ["sface_cosine"]}
SPECS = [
    Spec("patient-a", "a-front", checks=(FAILS, {})),
    Spec("patient-a", "a-side", view="profile", route=REGION_ONLY),
    Spec("patient-a", "a-teeth", view="intraoral", route=INTRAORAL),
]


def written(folder, specs):
    given = CONFIG | {"identity": "per_patient", "views": VIEWS}
    shards = write_private(folder / "private", specs)
    release = write_release(folder / "private", folder / "release", shards, 2, "1.0.0", given, MODELS)
    (folder / "attacks.json").write_text(json.dumps({"gate": {"passed": True, "criteria": []}}))
    attacks = folder / "attacks.json"
    return release, *build_audit(folder / "private", release, shards, 2, "1.0.0", given, MODELS, attacks)


def test_release_and_report_tell_the_routes_apart(tmp_path):
    release, audit, page = written(tmp_path, SPECS)
    rows = {row["release_photo_id"]: row for row in read_index(release).to_pylist()}
    front, side, teeth = (rows[ids(spec)[1]] for spec in SPECS)
    assert [row["route"] for row in (front, side, teeth)] == [GENERATE, REGION_ONLY, INTRAORAL]
    assert [row["attempt"] for row in (front, side, teeth)] == [1, 0, 0], "only a generated face waits for the others"
    assert (side["region_method"], teeth["region_method"]) == ("mouth", "whole")
    assert verify_release(release) == []
    card = (release / "README.md").read_text()
    assert "1 image (`region_only`) shows that area alone" in card
    assert "1 image (`intraoral`) is a whole photograph" in card
    assert "not processed by the generator" in page
    assert audit["cohort"]["routes"] == {"generate": 1, "intraoral": 1, "region_only": 1}
    assert audit["gate"]["passed"]
    found = {row["name"]: row for row in audit["gate"]["criteria"]}
    assert found["faces_yunet"]["found"] == found["sface_cosine"]["found"].split(";")[0] == "1 of 1"
    assert found["faces_dlib_without_face"]["found"] == "2 of 2"
    assert found["outside_neutral_without_face"]["found"] == "1 of 1"
    assert {row["passed"] for row in found.values()} == {True}


def test_without_any_the_report_does_not_speak_of_them(tmp_path):
    release, audit, page = written(tmp_path, [Spec("patient-a", "a-front")])
    assert "region_only`)" not in (release / "README.md").read_text()
    assert "without_face" not in json.dumps(audit)
    assert "not processed by the generator" not in page


@pytest.mark.parametrize(
    "lie",
    [
        {"faces_dlib": 1},
        {"faces_yunet": None},
        {"core_equal": False},
        {"outside_neutral": None},
        {"metadata_free": None},
        {"text_free": None},
        {"sface_cosine": 0.5},
        {"not_applicable": []},
        {"faces_yunet": 1},
        {"not_applicable": [*NOT_APPLICABLE, "core_equal"], "core_equal": None},
        {"route": INTRAORAL},
        {"route": GENERATE},
        {"route": None},
    ],
)
def test_a_row_that_says_passed_but_whose_numbers_do_not_is_held_back(tmp_path, lie):
    specs = [SPECS[2], Spec("patient-b", "b-side", route=REGION_ONLY, checks=({"passed": True, **lie},))]
    release, *_ = written(tmp_path, specs)
    assert read_index(release)["release_photo_id"].to_pylist() == [ids(SPECS[2])[1]]
