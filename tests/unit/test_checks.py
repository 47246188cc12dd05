"""The gate: each check refuses what it is there for, and a good result passes all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin
from skimage import data
from stamps import Stamp, stamped

from deidlib.checks import measures
from deidlib.checks.gate import _likeness, check_photos
from deidlib.cli.common import stage_options
from deidlib.contract.checks import LIKENESS, NAMES, TABLE, failed_checks, keeps_bound
from deidlib.contract.routes import GENERATE
from deidlib.regions.area import area_of_landmarks, cut_square, distance_outside, released_square
from deidlib.storage import tables
from deidlib.storage.images import encode_png, pixels_sha256
from deidlib.vision.alignment import aligned_to_native, eye_centres
from deidlib.vision.face_search import FaceSearch

BOUNDS = {
    "sface_max": 0.363,
    "dlib_min": 0.6,
    "second_face_max": 0.4,
    "survival_max": 0.9,
    "seam_max": 2.0,
    "mouth_shift_max": 8.0,
    "latent_distance_max": 3.0,
    "realism_min": -3.0,
}
GOOD = {
    "sface_cosine": 0.2,
    "dlib_distance": 0.8,
    "faces_yunet": 1,
    "faces_mediapipe": 1,
    "second_face": 0.4,
    "core_equal": True,
    "survival": 0.5,
    "seam": 1.2,
    "mouth_shift": 3.0,
    "latent_distance": 1.5,
    "realism": 2.0,
    "metadata_free": True,
    "text_free": True,
}
BAD = {
    "sface_cosine": 0.363,
    "dlib_distance": 0.6,
    "faces_yunet": 2,
    "faces_mediapipe": 0,
    "second_face": 0.41,
    "core_equal": False,
    "survival": 0.91,
    "seam": 2.1,
    "mouth_shift": 8.1,
    "latent_distance": 3.1,
    "realism": -3.1,
    "metadata_free": False,
    "text_free": False,
}


# ---- the verdict ----


def gate(values: dict, bounds: dict) -> list[str]:
    return failed_checks({"route": GENERATE, **values}, bounds)


def test_the_table_describes_each_check_once_for_a_route():
    pairs = [(check.name, route) for check in TABLE for route in check.routes]
    assert len(pairs) == len(set(pairs))
    assert set(NAMES) <= set(tables.CHECKS.names)
    with_bound = [check for check in TABLE if check.option]
    assert {check.option for check in with_bound} == set(stage_options("checks", "{}"))


def test_gate_passes_what_is_within_every_bound():
    assert gate(GOOD, BOUNDS) == []


@pytest.mark.parametrize("name", list(GOOD))
@pytest.mark.parametrize("kind", ["out of bounds", "none", "nan", "infinite", "minus infinite", "float32", "missing"])
def test_gate_fails_each_check_by_itself(name, kind):
    values = dict(GOOD)
    if kind == "missing":
        del values[name]
    else:
        values[name] = {
            "out of bounds": BAD[name],
            "none": None,
            "nan": math.nan,
            "infinite": math.inf,
            "minus infinite": -math.inf,
            "float32": np.float32(np.nan),
        }[kind]
    assert gate(values, BOUNDS) == [name]


@pytest.mark.parametrize(("name", "inside", "at_the_bound"), [("sface_cosine", -1, 0.363), ("dlib_distance", 1, 0.6)])
def test_a_score_that_only_just_keeps_its_bound_fails(name, inside, at_the_bound):
    """As it was selected by that bound: a score must keep it by more than saving the picture again moves it."""
    margin = LIKENESS[name].margin
    assert margin > 0.01
    assert gate(GOOD | {name: at_the_bound + inside * 0.0005}, BOUNDS) == [name]
    assert gate(GOOD | {name: at_the_bound + inside * (margin - 1e-6)}, BOUNDS) == [name]
    assert gate(GOOD | {name: at_the_bound + inside * (margin + 1e-6)}, BOUNDS) == []
    assert keeps_bound(LIKENESS[name], at_the_bound + inside * 0.0005, BOUNDS)
    assert not keeps_bound(LIKENESS[name], math.nan, BOUNDS)


class _Judge:
    """Compares numbers: its embedding of an image is the image's first value, NaN for 0."""

    def embed(self, image):
        return np.float32(image[0, 0, 0]) if image[0, 0, 0] else np.float32(np.nan)

    def compare(self, a, b):
        return a * b / 1000


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_one_score_that_is_no_number_spoils_all_of_a_photograph(values):
    """Which of a number and NaN counts as larger depends on their order, so none may be asked."""

    def picture(value):
        return np.full((4, 4, 3), value, np.uint8)

    sources = SimpleNamespace(
        of_same_patient=lambda photo: [str(value) for value in values[1:]],
        embeddings=lambda photo: {"sface": _Judge().embed(picture(int(photo)))},
    )
    found = _likeness(picture(values[0]), str(values[1]), sources, {"sface": _Judge()})
    assert found == {"sface_cosine": None}


def test_gate_names_failures_in_the_order_of_the_table():
    assert gate({}, BOUNDS) == [name for name in NAMES if name in GOOD]


@pytest.mark.parametrize("bound", list(BOUNDS))
def test_gate_fails_a_check_without_a_bound(bound):
    (name,) = (check.name for check in TABLE if check.option == bound)
    assert gate(GOOD, {name: value for name, value in BOUNDS.items() if name != bound}) == [name]


# ---- the core's pixels ----

SMALL = (9, 9)
pictures = hnp.arrays(np.uint8, (*SMALL, 3))
masks = hnp.arrays(np.uint8, SMALL, elements=st.sampled_from([0, 255]))


@given(source=pictures, result=pictures, core=masks, inside=hnp.arrays(bool, SMALL))
def test_core_equals_asks_for_the_core_and_for_nothing_else(source, result, core, inside):
    where = core > 0
    composite = np.where(where[..., None], source, result)
    is_whole = bool(where.any() and inside[where].all())
    assert measures.core_equals(source, composite, core, inside) == is_whole


@given(
    source=pictures,
    core=masks,
    step=st.integers(1, 255),
    pick=st.integers(0, 2**16),
    channel=st.integers(0, 2),
)
def test_core_equals_sees_a_single_changed_value(source, core, step, pick, channel):
    places = np.argwhere(core > 0)
    if not len(places):
        return
    result = source.copy()
    row, column = places[pick % len(places)]
    result[row, column, channel] = (int(result[row, column, channel]) + step) % 256
    assert not measures.core_equals(source, result, core, np.ones(SMALL, bool))


def test_core_equals_refuses_another_size():
    source = np.zeros((9, 9, 3), np.uint8)
    assert not measures.core_equals(source, source[:8], np.full((9, 9), 255, np.uint8), np.ones((9, 9), bool))


# ---- surviving original pixels ----

SIDE = 256
ALL = np.ones((SIDE, SIDE), bool)
PATCH = measures.PATCH_BLOCKS * measures.block_side(SIDE)
PLACES = [(40, 110), (60, 150), (180, 100), (200, 150)]
COPIES = {
    "plain": lambda x: x,
    "half the contrast, brighter": lambda x: 0.5 * x + 60,
    "darker": lambda x: 0.8 * x - 20,
    "slightly blurred": lambda x: cv2.GaussianBlur(x, (0, 0), 0.7),
    "blurred": lambda x: cv2.GaussianBlur(x, (0, 0), 1.1),
    "other colours": lambda x: x[..., ::-1] * [1.0, 0.9, 0.8],
    "noisy": lambda x: x + np.random.default_rng(0).normal(0, 2, x.shape),
}


def square(name: str) -> np.ndarray:
    image = getattr(data, name)()[:300, :300]
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def planted(source: np.ndarray, target: np.ndarray, place: tuple[int, int], change, side: int) -> np.ndarray:
    row, column = place
    here = np.s_[row : row + side, column : column + side]
    result = target.copy()
    result[here] = np.clip(np.round(change(source.astype(np.float64))), 0, 255)[here].astype(np.uint8)
    return result


@pytest.mark.parametrize(("a", "b"), [("astronaut", "cat"), ("cat", "coffee"), ("astronaut", "coffee")])
def test_unrelated_images_share_no_patch(a, b):
    assert measures.block_survival(square(a), square(b), ALL) < 0.7


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("copy", list(COPIES))
def test_a_copied_patch_is_found(place, copy):
    source, target = square("astronaut"), square("coffee")
    result = planted(source, target, place, COPIES[copy], PATCH + 16)
    assert measures.block_survival(source, result, ALL) > BOUNDS["survival_max"]


def test_a_copy_inside_core_band_or_beyond_the_photograph_does_not_count():
    source, target = square("astronaut"), square("coffee")
    row, column = PLACES[1]
    result = planted(source, target, (row, column), COPIES["plain"], 60)
    outside = ALL.copy()
    outside[row : row + 60, column : column + 60] = False
    assert measures.block_survival(source, result, outside) < 0.7
    outside[row : row + 40, column : column + 40] = True  # and where the mask ends, it counts again
    assert measures.block_survival(source, result, outside) > BOUNDS["survival_max"]


def test_one_shared_edge_is_no_surviving_patch():
    """Two faces have the same outline in the same place; everything else differs."""
    rng = np.random.default_rng(4)
    edge = np.where(np.arange(SIDE) < 100, 40, 200)[None, :, None]
    a, b = (np.clip(edge + rng.normal(0, 8, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for _ in range(2))
    assert measures.block_survival(a, b, ALL) < 0.8


def test_flat_images_have_nothing_to_recognise():
    flat = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert measures.block_survival(flat, flat, ALL) == -1.0


@pytest.mark.parametrize("side", [8, PATCH - 1, SIDE])
def test_survival_has_no_value_where_nothing_can_be_judged(side):
    image = square("cat")[:side, :side]
    assert measures.block_survival(image, image, np.zeros((side, side), bool)) is None


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.5, 1.0), offset=st.floats(0, 60), row=st.integers(20, 200), column=st.integers(20, 200))
def test_gain_and_offset_hide_no_copy(gain, offset, row, column):
    texture = np.random.default_rng(1).integers(40, 180, (SIDE, SIDE, 3)).astype(np.uint8)
    target = square("cat")
    result = planted(texture, target, (row, column), lambda x: gain * x + offset, PATCH + 6)
    assert measures.block_survival(texture, result, ALL) > BOUNDS["survival_max"]


# ---- whole rows, real models ----


def generated_face(model_files, seed: int) -> np.ndarray:
    """A face of the default generator, (1024, 1024, 3)."""
    import torch

    from deidlib.generators.mobilestylegan import MobileStyleGAN

    files = model_files("mobilestylegan")
    generator = MobileStyleGAN(files["MappingNetwork.xml"], files["SynthesisNetwork.xml"])

    def normal(seed: int, n: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 512)).astype(np.float32))

    with torch.no_grad():
        mean = generator.map(normal(0, 500)).mean(0)
        w = mean + 0.6 * (generator.map(normal(seed, 1)) - mean)
        image = generator.synthesise(w[:, None].expand(-1, generator.n_styles, -1))[0].permute(1, 2, 0).numpy()
    return np.clip(np.round((image + 1) * 127.5), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def case(model_files, landmarker):
    """The portrait, its region, and its mouth cross-faded into a generated face: a result that passes."""
    source = data.astronaut()
    points = landmarker.detect(source)[0].points
    matrix = aligned_to_native(points)
    left, top, side = released_square(matrix)
    crop, _ = cut_square(source, left, top, side)
    inter_ocular = np.hypot(*np.subtract(*eye_centres(points)))
    core = area_of_landmarks(points - np.array([left, top], np.float32), side, "mouth", 0.06 * inter_ocular)
    distance = distance_outside(core)
    band = np.where((distance > 0) & (distance <= 0.22 * inter_ocular), 255, 0).astype(np.uint8)
    to_crop = matrix - [[0, 0, left], [0, 0, top]]
    impostor = generated_face(model_files, seed=14)  # one whose mouth is about as wide as the portrait's
    smooth = cv2.GaussianBlur(impostor, (0, 0), 1.5)
    face = cv2.warpAffine(smooth, to_crop, (side, side), borderMode=cv2.BORDER_REFLECT)
    weight = np.clip(1 - distance / (0.22 * inter_ocular), 0, 1)[..., None]
    result = np.round(crop * weight + face * (1 - weight)).astype(np.uint8)
    result[core > 0] = crop[core > 0]
    return {
        "source": source,
        "crop": crop,
        "result": result,
        "impostor": cv2.resize(impostor, (512, 512), interpolation=cv2.INTER_AREA),
        "core": core,
        "band": band,
        "square": (left, top, side),
    }


@pytest.fixture(scope="module")
def run(case, sface, dlib_resnet, yunet, landmarker, realism, text_search):
    """Check one result of photograph ``p0`` and return its row; what is given replaces the good case's."""

    def checked(result=None, source=None, others=(), png=None, sha256=None, status=tables.OK, options=None, **region):
        source = case["source"] if source is None else source
        png = encode_png(case["result"] if result is None else result) if png is None else png
        photos = [photo("p0", "patient0", source, sha256)]
        photos += [photo(f"p{n}", patient, image) for n, (patient, image) in enumerate(others, start=1)]
        left, top, side = case["square"]
        regions = {
            "release_photo_id": "p0",
            "route": "generate",
            "crop_left": left,
            "crop_top": top,
            "crop_side": side,
            "core": encode_png(case["core"]),
            "band": encode_png(case["band"]),
            "text_boxes": [],
            "status": tables.OK,
        } | region
        blended = {"release_photo_id": "p0", "attempt": 1, "image": png, "seam": 1.1, "status": status}
        faces = {"release_photo_id": "p0", "attempt": 1, "latent_distance": 1.5, "status": tables.OK}
        steps = []
        table = check_photos(
            tables.from_rows(photos, tables.PHOTOS),
            tables.from_rows([regions], tables.REGIONS),
            tables.from_rows([blended], tables.BLENDED),
            tables.from_rows([faces], tables.FACES),
            {"sface": sface, "dlib": dlib_resnet},
            {"yunet": yunet, "mediapipe": landmarker, "text": text_search},
            FaceSearch(yunet, landmarker),
            realism,
            BOUNDS | (options or {}),
            lambda: steps.append(1),
        )
        assert table.schema == tables.CHECKS
        assert len(steps) == 1
        (row,) = table.to_pylist()
        return row

    return checked


def photo(photo_id: str, patient: str, image: np.ndarray, sha256: str | None = None) -> dict:
    return {
        "release_photo_id": photo_id,
        "release_patient_id": patient,
        "image": encode_png(image),
        "pixels_sha256": sha256 or pixels_sha256(image),
        "status": tables.OK,
    }


def test_a_good_result_passes(run):
    row = run()
    assert row["failed"] == []
    assert row["passed"] is True
    assert (row["release_photo_id"], row["release_patient_id"], row["attempt"]) == ("p0", "patient0", 1)
    assert row["faces_yunet"] == row["faces_mediapipe"] == 1
    assert row["core_equal"]
    assert row["metadata_free"]
    assert row["text_free"]
    assert row["latent_distance"] == pytest.approx(1.5)
    assert row["seam"] == pytest.approx(1.1)


def test_text_in_what_is_released_is_refused_and_so_is_what_was_not_searched(run, case):
    y, x = np.nonzero(case["core"])
    stamp = Stamp("12.03.1987", max(10, (x.max() - x.min()) // 6), (255, 255, 255))
    assert "text_free" in run(result=stamped(case["result"], stamp, (x.mean(), y.mean()))[0])["failed"]
    box = [float(value) for value in (x.min(), y.min(), x.max(), y.min(), x.max(), y.max(), x.min(), y.max())]
    assert run(text_boxes=[box])["failed"] == ["text_free"]
    row = run(text_boxes=None)
    assert (row["text_free"], row["failed"]) == (None, ["text_free"])


def test_the_original_itself_is_refused_as_recognisable_and_surviving(run, case):
    row = run(result=case["crop"])
    assert row["failed"] == ["sface_cosine", "dlib_distance", "survival"]
    assert row["sface_cosine"] > 0.9
    assert row["dlib_distance"] < 0.3
    assert row["survival"] == pytest.approx(1.0, abs=1e-6)
    assert row["mouth_shift"] == pytest.approx(0.0, abs=1e-3)


def test_likeness_to_another_photograph_of_the_patient_is_refused(run, case):
    mirrored = np.ascontiguousarray(case["source"][:, ::-1])
    impostor = case["impostor"]
    alone = run(result=case["crop"], source=impostor)
    other_patient = run(result=case["crop"], source=impostor, others=[("patient1", mirrored)])
    same_patient = run(result=case["crop"], source=impostor, others=[("patient0", mirrored)])
    recognised = {"sface_cosine", "dlib_distance"}
    assert not recognised & set(alone["failed"])
    assert other_patient["sface_cosine"] == alone["sface_cosine"]
    assert other_patient["dlib_distance"] == alone["dlib_distance"]
    assert recognised <= set(same_patient["failed"])


def test_a_source_without_a_face_fails_and_another_photograph_without_one_is_counted(run, capsys):
    room = np.ascontiguousarray(data.coffee())
    assert {"sface_cosine", "dlib_distance", "mouth_shift"} <= set(run(source=room)["failed"])
    assert "1 of the 1" in capsys.readouterr().err
    assert run(others=[("patient0", room)])["passed"]
    assert "sface finds no face in 1 of the 2" in capsys.readouterr().err


def test_a_result_without_a_face_fails(run, case):
    side = case["square"][2]
    row = run(result=cv2.resize(data.coffee(), (side, side)))
    assert row["faces_yunet"] == row["faces_mediapipe"] == 0
    assert row["sface_cosine"] is None
    assert row["dlib_distance"] is None
    assert row["mouth_shift"] is None
    unable = {"sface_cosine", "dlib_distance", "faces_yunet", "faces_mediapipe", "core_equal", "mouth_shift"}
    assert unable <= set(row["failed"])


def test_two_faces_are_refused(run, case):
    side = case["square"][2]
    half, quarter = side // 2, side // 4
    small = cv2.resize(case["impostor"], (half, half), interpolation=cv2.INTER_AREA)
    two = np.full((side, side, 3), 128, np.uint8)
    two[quarter : quarter + half, :half] = small
    two[quarter : quarter + half, half : 2 * half] = small[:, ::-1]
    row = run(result=two)
    assert row["faces_yunet"] >= 2  # at this size YuNet may take the seam between them for a third
    assert row["faces_mediapipe"] == 2
    assert {"faces_yunet", "faces_mediapipe", "mouth_shift"} <= set(row["failed"])


def test_one_changed_value_in_the_core_is_refused(run, case):
    changed = case["result"].copy()
    changed[tuple(np.argwhere(case["core"] > 0)[100])] ^= np.array([0, 1, 0], np.uint8)
    row = run(result=changed)
    assert row["core_equal"] is False
    assert row["failed"] == ["core_equal"]


def test_a_source_that_is_not_what_intake_vouched_for_is_refused(run):
    row = run(sha256="0" * 64)
    assert {"sface_cosine", "dlib_distance", "core_equal", "survival", "mouth_shift"} <= set(row["failed"])


def test_an_original_patch_left_beside_the_face_is_refused(run, case):
    side = PATCH + 16
    left_over = case["result"].copy()
    left_over[4 : 4 + side, 60 : 60 + side] = case["crop"][4 : 4 + side, 60 : 60 + side]
    row = run(result=left_over)
    assert row["failed"] == ["survival"]


def test_a_mouth_that_sits_elsewhere_is_refused(run, case):
    moved = cv2.warpAffine(
        case["result"],
        np.float32([[1, 0, 8], [0, 1, 0]]),
        case["result"].shape[1::-1],
        borderMode=cv2.BORDER_REFLECT,
    )
    assert "mouth_shift" in run(result=moved)["failed"]


def test_a_result_of_another_size_is_refused(run, case):
    row = run(result=case["result"][1:, 1:])
    assert {"core_equal", "survival", "mouth_shift"} <= set(row["failed"])


def test_metadata_in_the_file_is_refused(run, case, tmp_path):
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", "x")
    Image.fromarray(case["result"]).save(tmp_path / "a.png", pnginfo=about)
    row = run(png=(tmp_path / "a.png").read_bytes())
    assert row["failed"] == ["metadata_free"]
    assert run(png=encode_png(case["result"]) + b"GPS")["failed"] == ["metadata_free"]


@pytest.mark.parametrize("png", [b"", b"no image at all", None])
def test_what_cannot_be_decoded_fails_every_check_that_needs_it(run, png):
    status = tables.OK if png is not None else tables.QUARANTINED
    row = run(png=png if png is not None else b"", status=status)
    assert row["passed"] is False
    assert set(row["failed"]) == set(GOOD) - {"seam", "latent_distance"}


@pytest.mark.parametrize(("option", "name"), [("seam_max", "seam"), ("latent_distance_max", "latent_distance")])
def test_measures_of_earlier_stages_are_held_to_their_bounds(run, option, name):
    assert run(options={option: 1.0})["failed"] == [name]
