"""Masks drawn on the page in a real Chromium are what intake takes: the same size, the same place."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.action_chains import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from shard_tables import Spec, ids
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.intake import contents
from deidlib.intake.decoding import decode_mask, decode_photo
from deidlib.intake.photos import intake_photos
from deidlib.report.mask import Photograph, mask_page, read_photograph
from deidlib.storage import tables
from deidlib.storage.images import encode_png

WIDTH, HEIGHT = 300, 200  # of the file as it is stored
MOST_PIXELS = 10**6


def photograph(kind: str, orientation: int | None, where: str = "exif") -> bytes:
    """A picture whose stored top left corner is white and the rest dark, with an orientation in its metadata."""
    pixels = np.full((HEIGHT, WIDTH, 3), (60, 40, 30), np.uint8)
    pixels[:60, :80] = 235
    grain = np.random.default_rng(0).normal(0, 6, pixels.shape)  # a flat area looks like a lost part of a file
    pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    options: dict = {}
    if orientation is not None and where == "exif":
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    if orientation is not None and where == "xmp":
        rdf = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
        options["xmp"] = rdf.encode()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


class Page:
    """The page in a browser, driven as a person does."""

    def __init__(self, browser, folder: Path):
        self.browser, self.folder = browser, folder

    def find(self, name: str):
        return self.browser.find_element(By.ID, name)

    def open(self, path: Path) -> None:
        self.find("open").send_keys(str(path))
        self.wait(lambda _: path.name in self.find("name").text or "wrong" in self.find("state").get_attribute("class"))

    def wait(self, condition) -> None:
        WebDriverWait(self.browser, 30).until(condition)

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Offset from the canvas's middle of a point of the upright photograph."""
        script = (
            "return [arguments[0] * scale + left - canvas.width / 2, arguments[1] * scale + top_ - canvas.height / 2]"
        )
        return tuple(round(v) for v in self.browser.execute_script(script, x, y))

    def drag(self, *points: tuple[float, float]) -> None:
        canvas = self.find("canvas")
        first, *rest = [self.place(*point) for point in points]
        chain = ActionChains(self.browser, duration=20).move_to_element_with_offset(canvas, *first).click_and_hold()
        for x, y in rest:
            chain.move_to_element_with_offset(canvas, x, y)
        chain.release().perform()

    def click(self, x: float, y: float) -> None:
        ActionChains(self.browser, duration=20).move_to_element_with_offset(
            self.find("canvas"), *self.place(x, y)
        ).click().perform()

    def tool(self, name: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, f"[data-tool={name}]").click()

    def size(self, diameter: float) -> None:
        self.browser.execute_script(
            "at('size').value = 100 * Math.sqrt(arguments[0] / 2 / (Math.max(photo.width, photo.height) / 10));"
            "at('size').dispatchEvent(new Event('input'))",
            diameter,
        )

    def save(self) -> tuple[str, bytes]:
        """Save the mask; its file's name and content."""
        before = set(self.downloads())
        self.find("save").click()
        self.wait(lambda _: set(self.downloads()) - before)
        (name,) = set(self.downloads()) - before
        return name, (self.folder / "downloads" / name).read_bytes()

    def downloads(self) -> list[str]:
        folder = self.folder / "downloads"
        return [p.name for p in folder.glob("*") if p.suffix == ".png"] if folder.is_dir() else []

    def inside(self) -> int:
        return self.browser.execute_script(
            "const d = drawn.getImageData(0, 0, mask.width, mask.height).data; let n = 0;"
            "for (let i = 3; i < d.length; i += 4) n += d[i] > 127; return n"
        )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    assert CliRunner().invoke(app, ["mask-page", str(folder / "mask.html")]).exit_code == 0
    with chromium(folder) as browser:
        yield Page(browser, folder)


@pytest.fixture
def page(opened):
    opened.browser.get(f"file://{opened.folder / 'mask.html'}")
    yield opened
    errors = [entry for entry in opened.browser.get_log("browser") if entry["level"] == "SEVERE"]
    opened.browser.execute_script("unsaved = false")
    assert errors == []


def middle(mask: np.ndarray) -> tuple[float, float]:
    ys, xs = np.nonzero(mask)
    return xs.mean(), ys.mean()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "orientation", "where"),
    [
        *(("JPEG", orientation, "exif") for orientation in (None, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
        ("PNG", 6, "exif"),
        ("WEBP", 8, "exif"),
        ("JPEG", 6, "xmp"),
    ],
)
def test_a_mask_painted_on_a_turned_photograph_lies_where_it_was_painted(page, tmp_path, kind, orientation, where):
    """The white corner is painted over on the page; the mask covers it in deidlib's own decoding."""
    data = photograph(kind, orientation, where)
    file = tmp_path / f"portrait-{kind}-{orientation}-{where}.{kind.lower()}"
    file.write_bytes(data)
    rgb = decode_photo(data, MOST_PIXELS)
    white = rgb.min(axis=2) > 200
    page.open(file)
    x, y = middle(white)
    page.size(24)
    page.drag((x - 8, y), (x + 8, y))
    name, saved = page.save()
    assert name == f"portrait-{kind}-{orientation}-{where}.mask.png"
    mask = decode_mask(saved, MOST_PIXELS)
    assert mask.shape == rgb.shape[:2]
    assert mask[~white].max() == 0, "nothing outside the corner was painted"
    assert middle(mask) == pytest.approx((x, y), abs=2.5)
    assert mask.any()


@pytest.mark.browser
def test_intake_takes_the_saved_mask_with_the_cells_that_the_page_names(page, tmp_path):
    sheet = tmp_path / "cohort"
    (sheet / "p1").mkdir(parents=True)
    (sheet / "p1" / "smile.jpeg").write_bytes(photograph("JPEG", 6))
    page.open(sheet / "p1" / "smile.jpeg")
    page.find("path").clear()
    page.find("path").send_keys("p1/smile.jpeg")
    cell = page.find("cell").get_attribute("value")
    assert cell == "p1/smile.mask.png"
    page.drag((100, 40), (100, 200))
    name, saved = page.save()
    (sheet / cell).write_bytes(saved)
    assert Path(cell).name == name
    row = {"row": 2, "patient_id": "p1", "photo_id": "a", "path": "p1/smile.jpeg", "consent": "yes", "mask": cell}
    planned = "|".join(contents.digests([str(sheet / "p1" / "smile.jpeg"), str(sheet / cell)], {}))
    cohort = tables.from_rows([row | {"columns": "{}", "duplicate": False, "fingerprint": planned}], tables.COHORT)
    (photo,) = intake_photos(cohort, sheet, b"k" * 32, {"max_pixels": MOST_PIXELS, "min_side": 64}).to_pylist()
    assert (photo["status"], photo["width"], photo["height"]) == ("ok", HEIGHT, WIDTH)
    assert photo["mask"] == encode_png(decode_mask(saved, MOST_PIXELS))


@pytest.mark.browser
def test_every_tool_changes_the_mask_and_every_step_goes_back_and_forth(page, tmp_path):
    file = tmp_path / "face.png"
    file.write_bytes(photograph("PNG", None))
    page.open(file)
    page.find("save").click()
    assert "empty" in page.find("state").text
    counts = [page.inside()]
    page.size(40)
    page.drag((60, 100), (200, 100))
    counts.append(page.inside())
    page.tool("eraser")
    page.size(10)
    page.drag((60, 100), (200, 100))
    counts.append(page.inside())
    page.tool("polygon")
    for point in ((220, 20), (290, 20), (290, 90), (220, 90), (220, 20)):
        page.click(*point)
    counts.append(page.inside())
    page.tool("cut")
    for point in ((240, 40), (270, 40), (270, 70)):
        page.click(*point)
    page.find("canvas").send_keys("f")
    counts.append(page.inside())
    assert counts[0] == 0
    assert counts[1] == pytest.approx(140 * 40 + np.pi * 400, rel=0.06)
    assert counts[2] < counts[1]
    assert counts[3] - counts[2] == pytest.approx(70 * 70, rel=0.06)
    assert counts[3] - counts[4] == pytest.approx(450, rel=0.15)
    seen = [counts[-1]]
    for _ in range(4):
        page.find("undo").click()
        seen.append(page.inside())
    assert seen == counts[::-1]
    assert not page.find("undo").is_enabled()
    body = page.browser.find_element(By.TAG_NAME, "body")
    for count in counts[1:]:
        body.send_keys(Keys.CONTROL, "y")
        assert page.inside() == count
    body.send_keys(Keys.CONTROL, "z")
    assert page.inside() == counts[-2]
    page.find("clear").click()
    assert page.inside() == 0


@pytest.mark.browser
def test_the_keyboard_alone_draws_and_saves(page, tmp_path):
    file = tmp_path / "keys.png"
    file.write_bytes(photograph("PNG", None))
    page.open(file)
    page.size(20)
    canvas = page.find("canvas")
    canvas.send_keys("b", Keys.ENTER)
    assert page.inside() == pytest.approx(np.pi * 100, rel=0.1)
    canvas.send_keys("p", *[Keys.ARROW_RIGHT] * 3, Keys.ENTER)
    for way in (Keys.ARROW_RIGHT, Keys.ARROW_DOWN):
        canvas.send_keys(*[way] * 30, Keys.ENTER)
    canvas.send_keys("f")
    before = page.inside()
    assert before > np.pi * 100 + 300
    canvas.send_keys("e", Keys.ENTER)
    assert page.inside() < before
    downloads = set(page.downloads())
    canvas.send_keys(Keys.CONTROL, "s")
    page.wait(lambda _: set(page.downloads()) - downloads)


def touch(page, *fingers: list[tuple[float, float]]) -> None:
    """Move fingers over the canvas, each along its own points."""
    builder = ActionBuilder(page.browser, mouse=PointerInput("touch", "finger 0"), duration=30)
    inputs = [
        builder.pointer_inputs[0],
        *(builder.add_pointer_input("touch", f"finger {n}") for n in range(1, len(fingers))),
    ]
    for step in range(len(fingers[0])):
        for device, points in zip(inputs, fingers, strict=True):
            x, y = page.place(*points[step])
            device.create_pointer_move(duration=30, x=x, y=y, origin=page.find("canvas"))
        if step == 0:
            for device in inputs:
                device.create_pointer_down(button=0)
    for device in inputs:
        device.create_pointer_up(button=0)
    builder.perform()


@pytest.mark.browser
def test_one_finger_paints_two_fingers_enlarge_and_a_pen_keeps_fingers_from_painting(page, tmp_path):
    file = tmp_path / "touch.png"
    file.write_bytes(photograph("PNG", None))
    page.open(file)
    touch(page, [(100, 100), (150, 100), (200, 100)])
    painted = page.inside()
    assert painted > 400
    scale = page.browser.execute_script("return scale")
    touch(page, [(140, 100), (120, 100), (90, 100)], [(160, 100), (180, 100), (210, 100)])
    assert page.browser.execute_script("return scale") > 2 * scale
    assert page.inside() == painted, "a pinch paints nothing"
    page.find("fit").click()
    pen = ActionBuilder(page.browser, mouse=PointerInput("pen", "pen"), duration=30)
    (device,) = pen.pointer_inputs[:1]
    for x, down in ((100, True), (200, False)):
        px, py = page.place(x, 150)
        device.create_pointer_move(duration=30, x=px, y=py, origin=page.find("canvas"))
        if down:
            device.create_pointer_down(button=0)
    device.create_pointer_up(button=0)
    pen.perform()
    after_pen = page.inside()
    assert after_pen > painted
    touch(page, [(100, 40), (150, 40), (200, 40)])
    assert page.inside() == after_pen


@pytest.mark.browser
def test_what_cannot_be_used_is_refused_in_words(page, tmp_path):
    (tmp_path / "scan.tiff").write_bytes(b"II*\0" + bytes(100))
    page.open(tmp_path / "scan.tiff")
    assert "Save a copy of the photograph as PNG" in page.find("state").text
    assert not page.find("save").is_enabled()
    file = tmp_path / "all.png"
    file.write_bytes(photograph("PNG", None))
    page.open(file)
    page.browser.execute_script("step(whole(), () => { drawn.fillStyle = '#fff'; drawn.fillRect(0, 0, 9999, 9999); })")
    page.find("save").click()
    assert "covers the whole photograph" in page.find("state").text


@pytest.mark.browser
def test_a_page_that_comes_with_a_photograph_shows_its_area_and_reaches_no_network(opened, tmp_path):
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    area = np.zeros((HEIGHT, WIDTH), np.uint8)
    area[50:110, 40:160] = 255
    name = "p1/</script><b>x.png"
    file = tmp_path / "given.html"
    file.write_text(mask_page(Photograph(rgb, area, name)))
    opened.browser.get(f"file://{file}")
    opened.wait(lambda _: opened.find("proposal").is_displayed())
    assert opened.inside() == 60 * 120
    assert opened.find("path").get_attribute("value") == name
    opened.drag((250, 150), (260, 150))
    assert opened.inside() > 60 * 120
    opened.find("proposal").click()
    assert opened.inside() == 60 * 120
    _, saved = opened.save()
    assert np.array_equal(decode_mask(saved, MOST_PIXELS), area)
    reached = opened.browser.execute_async_script(
        "fetch('https://example.org').then(() => arguments[0](true), () => arguments[0](false))"
    )
    assert reached is False
    blocked = [entry["message"] for entry in opened.browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in blocked)


@pytest.mark.browser
def test_what_is_preserved_shows_without_colour(page, tmp_path):
    """Lightness alone tells the outline and what is replaced, on black, on white and on grey."""
    for level in (0, 128, 255):
        file = tmp_path / f"grey{level}.png"
        file.write_bytes(encode_png(np.full((HEIGHT, WIDTH, 3), level, np.uint8)))
        page.open(file)
        page.drag((100, 100), (200, 100))
        page.browser.execute_script("hover = null; drawNow()")
        for shown in ("line", "shade"):
            Select(page.find("show")).select_by_value(shown)
            page.browser.execute_script("hover = null; drawNow()")
            x, y = page.browser.execute_script("return toView(150, 100)")
            column = page.browser.execute_script(
                "return Array.from(view.getImageData(arguments[0], 0, 1, canvas.height).data)", round(x)
            )
            grey = np.array(column).reshape(-1, 4)[: round(y), :3].mean(axis=1)
            assert np.abs(grey - level).max() > 100, (level, shown)
        page.browser.execute_script("unsaved = false")


def test_a_page_with_a_patient_goes_nowhere_but_into_the_private_folder(tmp_path, monkeypatch):
    import json

    from shard_tables import draw_face, write_private

    spec = Spec("patient-one", "photo-one", path="one/photo.jpg")
    private = tmp_path / "results" / "private"
    shards = write_private(private, [spec], attempts=1)
    (private / "plan.json").write_text(json.dumps({"shards": shards}))
    row = {"row": 2, "patient_id": "patient-one", "photo_id": "photo-one", "path": "one/photo.jpg", "columns": "{}"}
    for shard in shards:
        tables.write(
            tables.from_rows([row | {"duplicate": False, "fingerprint": "1|1"}], tables.COHORT),
            private / "shards" / shard / "cohort.parquet",
            tables.COHORT,
        )
    photo_id = ids(spec)[1]
    shown = read_photograph(private, shards, photo_id)
    assert np.array_equal(shown.image, draw_face(2, spec.side))
    assert shown.path == "one/photo.jpg"
    assert shown.area.shape == shown.image.shape[:2]
    assert shown.area.any()
    arguments = ["mask-page", "--photo", photo_id, "--results", str(tmp_path / "results")]
    refused = CliRunner().invoke(app, [*arguments, str(tmp_path / "mask.html")])
    assert refused.exit_code == 1
    assert "below the results' private folder" in refused.output
    before = os.umask(0o022)
    try:
        assert CliRunner().invoke(app, [*arguments, str(private / "mask.html")]).exit_code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((private / "mask.html").stat().st_mode) == 0o600
    unknown = CliRunner().invoke(app, [*arguments[:2], "a" * 16, *arguments[3:], str(private / "mask.html")])
    assert "no photograph of this run has that id" in unknown.output


def test_the_page_is_one_file_without_links():
    html = mask_page()
    assert "http://" not in html.replace("http://ns.adobe.com/xap/1.0/", "")
    assert "https://" not in html
    assert "src=" not in html.split("<script>")[0]
