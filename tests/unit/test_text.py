"""Text and codes in pictures: what is found, what is let be, and what becomes of a photograph that has them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import zxingcpp
from stamps import Stamp, drawn_teeth, stamped

from deidlib.contract.routes import GENERATE, INTRAORAL, REGION_ONLY
from deidlib.regions.text import hold_text, text_in_area
from deidlib.report.marked import text_found
from deidlib.storage import tables
from deidlib.storage.images import encode_png
from deidlib.vision.codes import find_codes
from deidlib.vision.onnx_graph import in_fewer_passes
from deidlib.vision.text import TextFinder, session

SIDE = 240  # px of the released square in the face


@pytest.fixture(scope="module")
def finder(model_files):
    return TextFinder(*(next(iter(model_files(name).values())) for name in ("text_detector", "text_reader")))


@pytest.fixture(scope="module")
def search(text_search):
    return text_search


@pytest.fixture(scope="module")
def mouth():
    """A real portrait in the public domain: the face, twice as large, its open mouth at (120, 168)."""
    face = np.ascontiguousarray(skimage.data.astronaut()[60:180, 164:284])
    return cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def teeth(seed, braces=True):
    return drawn_teeth(480, 320, seed, braces)


def boxes(marks):
    return [np.round(mark.quad).astype(int) for mark in marks]


def shares(mark, where):
    covered = np.zeros(where.shape, np.uint8)
    cv2.fillConvexPoly(covered, np.round(mark.quad).astype(np.int32), 1)
    return (covered[where] > 0).mean()


# ---- what is found ----


@pytest.mark.parametrize(("model", "size"), [("text_detector", (480, 320)), ("text_reader", (200, 48))])
def test_the_networks_compute_what_their_published_files_compute(model_files, model, size):
    (file,) = model_files(model).values()
    published = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    picture, _ = stamped(teeth(3), Stamp("Maria Keller", 22), (240, 160))
    seen = cv2.resize(picture, size).astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    given = {published.get_inputs()[0].name: seen}
    (expected,), (found,) = (network.run(None, given) for network in (published, session(file)))
    assert expected.max() - expected.min() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_fewer_passes_leave_no_layer_of_many_passes(model_files):
    (file,) = model_files("text_detector").values()
    operations = [node.op_type for node in onnx.load_from_string(in_fewer_passes(file)).graph.node]
    assert not {"Clip", "Div"} & set(operations)
    assert operations.count("Mul") == 34  # 24 hard swishes, 10 gates


@pytest.mark.parametrize("turn", [0, 30, 90, 180, 270])
def test_a_name_is_found_and_told_where_in_every_direction(finder, turn):
    picture, where = stamped(teeth(3), Stamp("Maria Keller", 22, (255, 255, 0), turn=turn), (240, 160))
    found = finder.find(picture)
    assert found
    assert shares(found[0], where) > 0.6


@pytest.mark.parametrize("size", [12, 40, 90])
def test_letters_are_found_small_and_large(finder, size):
    assert finder.find(stamped(teeth(4), Stamp("K. Yilmaz", size), (240, 160))[0])


def test_a_large_picture_is_looked_at_in_tiles(finder):
    """Longer than one tile: the line lies across two, near the far edge."""
    picture, where = stamped(drawn_teeth(1300, 200, seed=5), Stamp("12.03.1987", 26), (1150, 100))
    found = finder.find(picture)
    assert len(found) == 1
    assert shares(found[0], where) > 0.8


@pytest.mark.parametrize("braces", [False, True])
def test_teeth_and_braces_are_no_text(finder, braces):
    assert boxes(finder.find(teeth(6, braces))) == []


def test_a_face_is_no_text(finder, mouth):
    assert boxes(finder.find(mouth)) == []


def test_the_same_picture_gives_the_same_marks(finder):
    picture, _ = stamped(teeth(7), Stamp("ID 4711-08", 18), (200, 150))
    first, second = finder.find(picture), finder.find(picture)
    assert [(mark.quad.tobytes(), mark.score) for mark in first] == [(m.quad.tobytes(), m.score) for m in second]


def code_of(kind: str, turn: int = 0) -> np.ndarray:
    made = zxingcpp.create_barcode("4711-0819870312", getattr(zxingcpp.BarcodeFormat, kind)).to_image(scale=2)
    code = np.asarray(made)
    height, width = code.shape[:2]
    side = round(np.hypot(height, width)) + 2
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1)
    turned[:, 2] += (side - np.array([width, height])) / 2
    return cv2.warpAffine(code, turned, (side, side), borderValue=255)


@pytest.mark.parametrize("kind", ["QRCode", "DataMatrix", "Code128", "Aztec"])
@pytest.mark.parametrize("turn", [0, 40, 90])
def test_codes_are_found_and_told_where(kind, turn):
    picture, code = drawn_teeth(seed=8), code_of(kind, turn)
    top, left = 100, 200
    picture[top : top + code.shape[0], left : left + code.shape[1]] = code[..., None]
    found = find_codes(picture)
    assert found
    middle = found[0].quad.mean(axis=0) - [left, top]
    assert np.abs(middle - code.shape[0] / 2).max() < code.shape[0] / 2


@pytest.mark.parametrize("seed", range(3))
def test_teeth_and_braces_are_no_codes(seed):
    assert find_codes(drawn_teeth(seed=seed)) == []


# ---- what counts: what would be released as it is ----


def test_text_counts_where_it_reaches_into_the_area(mouth, search):
    picture, _ = stamped(mouth, Stamp("12.03.1987", 20, (255, 120, 0)), (120, 180))
    area = np.zeros(mouth.shape[:2], bool)
    area[150:200, 150:230] = True  # the date's second half
    quad = text_in_area(picture, area, search)[0]
    assert quad[:, 0].min() < 100, "the whole line is told, not only what lies in the area"
    beside = np.zeros_like(area)
    beside[100:140, 90:150] = True
    assert text_in_area(picture, beside, search) == []


def photo_and_region(image, route, core=None, band=None, left=0, top=0):
    whole = route == INTRAORAL
    core = np.full(image.shape[:2], 255, np.uint8) if whole else core
    photo = {"release_photo_id": "p", "release_patient_id": "q", "row": 2, "image": encode_png(image), "status": "ok"}
    region = {
        "release_photo_id": "p",
        "route": route,
        "crop_left": left,
        "crop_top": top,
        "crop_side": None if whole else core.shape[0],
        "core": encode_png(core),
        "band": encode_png(np.zeros_like(core) if band is None else band),
        "status": tables.OK,
    }
    return tables.from_rows([photo], tables.PHOTOS), tables.from_rows([region], tables.REGIONS)


def ellipse(axes):
    return cv2.ellipse(np.zeros((SIDE, SIDE), np.uint8), (120, 168), axes, 0, 0, 360, 255, -1)


def judged(image, search, route, **area):
    (row,) = hold_text(*photo_and_region(image, route, **area), search).to_pylist()
    return row


def test_a_name_burnt_into_an_intraoral_picture_is_held_back(search):
    picture, where = stamped(teeth(9), Stamp("Keller, Maria 12.03.1987 4711-08", 20), (200, 300))
    row = judged(picture, search, INTRAORAL)
    assert (row["status"], row["reason"]) == (tables.QUARANTINED, "text_in_picture")
    (left, top), (right, bottom) = np.array(row["text_boxes"][0]).reshape(4, 2)[[0, 2]]
    y, x = np.nonzero(where)
    assert min(left, right) < x.mean() < max(left, right)
    assert min(top, bottom) < y.mean() < max(top, bottom)


@pytest.mark.parametrize("route", [GENERATE, REGION_ONLY])
def test_a_date_across_the_corner_of_the_mouth_is_held_back(mouth, search, route):
    core = ellipse((45, 22))
    picture, _ = stamped(mouth, Stamp("12 03 1987", 18, (255, 130, 20)), (185, 180))
    assert judged(picture, search, route, core=core)["reason"] == "text_in_picture"
    elsewhere, _ = stamped(mouth, Stamp("12 03 1987", 18, (255, 130, 20)), (185, 15))
    row = judged(elsewhere, search, route, core=core)
    assert (row["status"], row["text_boxes"]) == (tables.OK, []), "what is not released is nobody's name in the release"


def test_text_in_the_band_alone_is_held_back(mouth, search):
    core, wide = ellipse((30, 14)), ellipse((80, 60))
    picture, _ = stamped(mouth, Stamp("LUCAS", 16, (0, 0, 0)), (120, 210))
    band = wide & ~core
    assert judged(picture, search, GENERATE, core=core, band=band)["reason"] == "text_in_picture"


def test_text_beyond_the_edge_of_the_crop_is_seen(mouth, search):
    """The released square ends in the middle of the line."""
    core = np.full((60, 60), 255, np.uint8)
    picture, _ = stamped(mouth, Stamp("Maria Keller", 22), (120, 200))
    assert judged(picture, search, REGION_ONLY, core=core, left=150, top=160)["reason"] == "text_in_picture"


def test_a_qr_code_is_held_back(search):
    picture, code = teeth(10), code_of("QRCode")
    picture[20 : 20 + code.shape[0], 30 : 30 + code.shape[1]] = code[..., None]
    assert judged(picture, search, INTRAORAL)["reason"] == "text_in_picture"


@pytest.mark.parametrize("route", [GENERATE, REGION_ONLY])
def test_a_clean_mouth_passes(mouth, search, route):
    row = judged(mouth, search, route, core=ellipse((45, 22)))
    assert (row["status"], row["reason"], row["text_boxes"]) == (tables.OK, None, [])


def test_a_clean_intraoral_picture_passes(search):
    assert judged(teeth(11), search, INTRAORAL)["status"] == tables.OK


def test_a_search_that_breaks_down_lets_nothing_through(mouth):
    def broken(image):
        raise RuntimeError("the network could not be run")

    row = judged(mouth, broken, REGION_ONLY, core=ellipse((45, 22)))
    assert (row["status"], row["reason"]) == (tables.QUARANTINED, "text_unchecked")


def test_what_an_earlier_stage_held_back_keeps_its_reason(mouth):
    photos, _ = photo_and_region(mouth, REGION_ONLY, core=ellipse((45, 22)))
    row = {"release_photo_id": "p", "route": REGION_ONLY, "status": tables.QUARANTINED, "reason": "region_empty"}
    held = hold_text(photos, tables.from_rows([row], tables.REGIONS), search=None)
    assert held["reason"].to_pylist() == ["region_empty"]


def test_the_reviewer_sees_where(tmp_path, search):
    picture, where = stamped(teeth(12), Stamp("Maria Keller", 24), (240, 30))
    photos, regions = photo_and_region(picture, INTRAORAL)
    tables.write(photos, tmp_path / "photos.parquet", tables.PHOTOS)
    tables.write(hold_text(photos, regions, search), tmp_path / "regions.parquet", tables.REGIONS)
    (shown,) = text_found(tmp_path, 10)
    data = np.frombuffer(base64.b64decode(shown["picture"].split(",")[1]), np.uint8)
    seen = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
    y, x = np.nonzero(np.abs(seen.astype(int) - [255, 0, 255]).sum(axis=2) < 120)
    scale = seen.shape[1] / picture.shape[1]
    inside_y, inside_x = np.nonzero(where)
    assert x.min() < inside_x.min() * scale < inside_x.max() * scale < x.max()
    assert y.min() < inside_y.min() * scale < inside_y.max() * scale < y.max()
