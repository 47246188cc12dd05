"""The gallery page in a real Chromium, opened from the disk."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chromium import chromium
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release

from deidlib.release import gallery

pytestmark = pytest.mark.browser

#: A name that would be run if it became markup.
EVIL = '</script><img src=x onerror="document.title=`owned`"><script>document.title=`owned`</script>'


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    views = ("frontal_rest", "frontal_smile")
    specs = [
        Spec(
            f"patient-{n // 2}", f"photo-{n}", view=views[n % 2], age=8.0 + 12 * (n // 2), sex="FM"[n // 2 % 2], side=64
        )
        for n in range(60)
    ]
    shards = write_private(folder / "private", specs, attempts=1)
    config = CONFIG | {"release": CONFIG["release"] | {"name": EVIL}}
    return write_release(folder / "private", folder / "release", shards, 1, "1.0.0", config, MODELS)


@pytest.fixture(scope="module")
def browser(release, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(browser, release):
    browser.get("about:blank")
    browser.get((release / "gallery.html").as_uri())
    return Page(browser)


class Page:
    """The page, driven as a person does."""

    def __init__(self, browser):
        self.browser = browser

    def find(self, name: str):
        return self.browser.find_element(By.ID, name)

    def cards(self) -> list[str]:
        script = "return [...document.querySelectorAll('.card')].map((card) => card.dataset.photo)"
        return self.browser.execute_script(script)

    def wait(self, condition) -> None:
        WebDriverWait(self.browser, 10).until(lambda _: condition())

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def choose(self, column: str, value: str) -> None:
        for label in self.browser.find_elements(By.CSS_SELECTOR, "#filters label"):
            if label.text.split("\n")[0] == column:
                menu = Select(label.find_element(By.TAG_NAME, "select"))
                (option,) = [one for one in menu.options if one.text.startswith(f"{value} (")]
                menu.select_by_visible_text(option.text)
                return
        pytest.fail(f"no menu for {column}")


def drawn(page: Page) -> list[int]:
    script = "return [...document.querySelectorAll('.card img')].filter((i) => i.complete).map((i) => i.naturalWidth)"
    return page.browser.execute_script(script)


def test_images_are_shown_from_the_disk_and_no_name_becomes_markup(page):
    page.wait(lambda: len(drawn(page)) > 20)
    assert set(drawn(page)) == {64}
    assert page.find("name").text.startswith("</script><img src=x")
    assert "owned" not in page.browser.title[:5]
    assert page.browser.execute_script("return document.querySelectorAll('script').length") == 2
    assert page.browser.get_log("browser") == []


def test_nothing_can_be_fetched(page):
    fetched = page.browser.execute_async_script(
        "const done = arguments[0]; fetch('https://example.org/').then(() => done('sent'), () => done('refused'))"
    )
    assert fetched == "refused"
    assert any("Content Security Policy" in line["message"] for line in page.browser.get_log("browser"))


def test_search_and_filters_find_what_the_index_has(page, release):
    index = pq.read_table(release / "index.parquet").to_pandas()
    page.choose("view", "frontal_smile")
    page.choose("sex", "F")
    expected = index[(index["view"] == "frontal_smile") & (index["sex"] == "F")]
    assert page.find("count").text.startswith(f"{len(expected)} photographs of {len(expected)} patients")
    assert page.cards() == [str(place) for place in expected.index]
    page.browser.refresh()
    assert page.cards() == [str(place) for place in expected.index], "reloading keeps the filters"
    page.find("clear").click()
    assert page.find("count").text == "60 photographs of 30 patients"
    patient = index["release_patient_id"][7]
    page.press("/", patient[:9])
    page.wait(lambda: len(page.cards()) == 2)
    assert page.cards() == [str(place) for place in index.index[index["release_patient_id"] == patient]]


def test_pages_hold_48_and_patients_stay_together(page):
    assert len(page.cards()) == 48
    page.find("forth").click()
    assert len(page.cards()) == 12
    page.press(Keys.ESCAPE, "p")
    titles = page.browser.find_elements(By.CSS_SELECTOR, "#grid h2")
    assert len(titles) == 16
    assert all("2 photographs" in title.text for title in titles)
    assert page.cards() == [str(n) for n in range(32)]


def test_the_keyboard_alone_goes_through_the_photographs(page):
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    viewer = page.find("viewer")
    page.wait(lambda: viewer.is_displayed() and page.find("zoom").text == "fit")
    at_first = page.find("of").text
    page.press("+")
    page.wait(lambda: page.find("zoom").text.endswith("%"))
    page.press("1")
    page.wait(lambda: page.find("zoom").text == "100 %")
    page.press(Keys.ARROW_RIGHT)
    page.wait(lambda: page.find("of").text != at_first)
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#strip img")) == 2
    page.press(Keys.ESCAPE)
    page.wait(lambda: not viewer.is_displayed())
    assert page.browser.switch_to.active_element.get_attribute("data-photo") == "2", "the photograph shown last"


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_window(page, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.browser.refresh()
        wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        scroll, client = page.browser.execute_script(wide)
        assert scroll <= client
        page.browser.find_element(By.CSS_SELECTOR, ".card").click()
        boxes = page.browser.execute_script(
            "return [...document.querySelectorAll('#bar button')].map((b) => b.getBoundingClientRect())"
            ".map((r) => [r.left, r.right])"
        )
        assert all(0 <= left < right <= client for left, right in boxes)
    finally:
        metrics = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_a_page_beyond_the_limit_says_how_to_look_at_the_index(browser, release, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_PHOTOGRAPHS", 59)
    index = pq.read_table(release / "index.parquet")
    (tmp_path / "gallery.html").write_bytes(gallery.gallery_page(index, "Many", "CC0-1.0", "1.0.0", "2026-03-01"))
    browser.get((tmp_path / "gallery.html").as_uri())
    shown = browser.find_element(By.TAG_NAME, "body").text
    assert "This release holds 60 photographs" in shown
    assert "read_parquet" in shown
    assert browser.find_elements(By.CSS_SELECTOR, ".card") == []
