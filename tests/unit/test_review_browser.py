"""The reviewer's page in a real Chromium: decide, resume, two tabs, a killed server, a changed image, hostile ids."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from chromium import chromium
from review_results import HOSTILE, SIDE, specs, write_results
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from shard_tables import ids
from test_review_server import change_image, decide, serving

from deidlib.report.mask import mask_page, read_photograph
from deidlib.review.cases import Cohort
from deidlib.review.decisions import read_decisions
from deidlib.review.masks import read_mask
from deidlib.review.static import import_decisions, write_static
from deidlib.review.workflow import masks_of_shard
from deidlib.storage import tables

pytestmark = pytest.mark.browser
PHOTOS = [ids(spec)[1] for spec in specs()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "results")


def wait(browser, condition):
    return WebDriverWait(browser, 20, 0.05).until(lambda _: condition())


def shown(browser):
    return browser.execute_script("return document.body.dataset.photo || ''")


def show(browser, address, photo=PHOTOS[0]):
    browser.get_log("browser")  # of the test before
    browser.get(address)
    wait(browser, lambda: shown(browser) == photo)


def text(browser, name):
    return browser.find_element(By.ID, name).text


def press(browser, *keys):
    for key in keys:
        browser.find_element(By.TAG_NAME, "body").send_keys(key)


def decided(results):
    return [(one.photo, one.decision) for one in read_decisions(results / "private", "s0000")]


def troubles(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_decide_by_keyboard_reload_and_resume(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        assert "0 of 4" in text(browser, "count")
        press(browser, "r")
        wait(browser, lambda: shown(browser) == PHOTOS[1])  # the next one that is to be decided
        assert decided(results) == [(PHOTOS[0], "release")]
        browser.refresh()
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        assert "1 of 4" in text(browser, "count")
        press(browser, "w")
        press(browser, "3")
        browser.find_element(By.ID, "note").send_keys("r f 1")  # typing decides nothing
        browser.find_element(By.CSS_SELECTOR, "#why [type=submit]").click()
        wait(browser, lambda: shown(browser) == PHOTOS[2])
        assert not troubles(browser)
    one = read_decisions(results / "private", "s0000")[-1]
    assert (one.photo, one.decision, one.reason, one.note) == (PHOTOS[1], "withhold", "unnatural", "r f 1")
    with serving(results) as server:  # on another day
        show(browser, server.address, PHOTOS[2])
        assert "2 of 4" in text(browser, "count")
        press(browser, Keys.ARROW_LEFT)  # nothing before it is to be decided
        assert shown(browser) == PHOTOS[2]


def test_change_of_mind_and_the_end(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        for number in range(4):
            wait(browser, lambda number=number: shown(browser) == PHOTOS[number])
            press(browser, "fara"[number])
            wait(browser, lambda number=number: len(decided(results)) == number + 1)
        wait(browser, lambda: "All are decided" in text(browser, "saved"))
        press(browser, "u")
        wait(browser, lambda: "3 of 4" in text(browser, "count"))
    assert [kind for _, kind in decided(results)] == ["another_face", "area_wrong", "release", "area_wrong", "reopen"]


def test_what_the_checks_hold_back_is_shown_and_cannot_be_released(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        browser.find_element(By.CSS_SELECTOR, "#filter [value=held]").click()
        wait(browser, lambda: shown(browser) == PHOTOS[4])
        assert "gate" in text(browser, "verdict")
        assert "unnatural" in text(browser, "remarks")
        assert not browser.find_element(By.CSS_SELECTOR, "[data-decision=release]").is_enabled()
        press(browser, "r")
        press(browser, Keys.ARROW_RIGHT)
        wait(browser, lambda: shown(browser) == PHOTOS[5])
        assert "consent" in text(browser, "verdict").lower()
    assert decided(results) == []


def test_two_tabs_learn_of_each_other(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        show(browser, server.address)
        press(browser, "f")
        wait(browser, lambda: decided(results) == [(PHOTOS[0], "another_face")])
        browser.close()
        browser.switch_to.window(first)
        wait(browser, lambda: "Another face" in text(browser, "verdict"))
        assert "1 of 4" in text(browser, "count")


def test_a_tab_does_not_overwrite_what_it_has_not_seen(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        assert decide(server, PHOTOS[0], "another_face")[0] == 200  # in another window
        press(browser, "r")
        wait(browser, lambda: "Nothing was saved" in text(browser, "alarm"))
        assert "Another face" in text(browser, "verdict")
        assert decided(results) == [(PHOTOS[0], "another_face")]


def test_an_image_that_changed_under_the_page_is_shown_anew(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        change_image(results, PHOTOS[0])
        press(browser, "r")
        wait(browser, lambda: "changed" in text(browser, "alarm"))
        assert decided(results) == []
        press(browser, "r")  # on the new one
        wait(browser, lambda: shown(browser) == PHOTOS[1])
    assert decided(results) == [(PHOTOS[0], "release")]


@contextmanager
def command(results, port=0):
    arguments = [
        sys.executable,
        "-c",
        "from deidlib.cli import app; app()",
        "review",
        str(results),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        while not (found := re.search(r"http://\S+", "".join(lines))):
            line = process.stdout.readline()
            assert line, "the command ended"
            lines.append(line)
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_killed_server_is_told_and_nothing_that_was_saved_is_lost(browser, results):
    with command(results) as (process, address):
        show(browser, address)
        press(browser, "r")
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        process.send_signal(signal.SIGKILL)
        process.wait()
        press(browser, "r")
        wait(browser, lambda: "NOT SAVED" in text(browser, "alarm"))
        assert "1 of 4" in text(browser, "count")
    assert decided(results) == [(PHOTOS[0], "release")]
    with command(results) as (process, address):
        show(browser, address, PHOTOS[1])
        assert "1 of 4" in text(browser, "count")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@contextmanager
def on_paper(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def pictures(browser):
    return [one for one in browser.find_elements(By.CSS_SELECTOR, "img, canvas") if one.is_displayed()]


def test_no_picture_of_a_patient_is_printed(browser, results):
    def draw(photo):
        return mask_page(read_photograph(results / "private", ["s0000"], photo), sends=True)

    sheet = tables.from_rows([{"row": row, "path": "photo.jpg"} for row in range(2, 8)], tables.COHORT)
    tables.write(sheet, results / "private" / "shards" / "s0000" / "cohort.parquet", tables.COHORT)
    with serving(results, mask_page=draw) as server:
        show(browser, server.address)
        assert len(pictures(browser)) >= 2
        with on_paper(browser):
            assert pictures(browser) == []
        browser.get(f"{server.address}mask/{PHOTOS[0]}")
        wait(browser, lambda: "present area" in text(browser, "state"))
        assert pictures(browser)
        with on_paper(browser):
            assert pictures(browser) == []


def test_hostile_ids_are_text(browser, results):
    with serving(results) as server:
        show(browser, server.address)
        press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        wait(browser, lambda: shown(browser) == PHOTOS[2])
        assert HOSTILE in text(browser, "facts")
        assert '<b>T"0</b>' in text(browser, "facts")
        assert browser.execute_script("return document.querySelectorAll('img[onerror], #facts b').length") == 0
        assert not troubles(browser)


def test_ways_to_compare(browser, results):
    def style(selector, name):
        element = browser.find_element(By.CSS_SELECTOR, selector)
        return element.value_of_css_property(name)

    with serving(results) as server:
        show(browser, server.address)
        press(browser, "2", "]", "]")
        assert style("#pane-result .window", "clip-path") == "inset(0px 0px 0px 60%)"
        press(browser, "3")
        before = text(browser, "seen")
        wait(browser, lambda: text(browser, "seen") != before)  # by itself
        press(browser, "4")
        assert style("#pane-result", "mix-blend-mode") == "difference"
        press(browser, "1", "o")
        assert len(browser.find_elements(By.CSS_SELECTOR, ".layer svg")) == 2
        press(browser, "m")
        transforms = [style(f"#pane-{which} .layer", "transform") for which in ("original", "result")]
        assert transforms[0] == transforms[1]  # both panes move together
        assert float(re.findall(r"[\d.]+", transforms[0])[0]) > 1.5
        press(browser, "0")
        assert text(browser, "zoom") == "fit"


def test_a_tablet_shows_everything_and_takes_fingers(tmp_path, results):
    with chromium(tmp_path, 820, 1180) as browser, serving(results) as server:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        show(browser, server.address)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 820
        small = browser.execute_script(
            "return [...document.querySelectorAll('button')].filter((b) => b.offsetHeight && b.offsetHeight < 44)"
            ".length"
        )
        assert small == 0  # every button is as high as a finger needs
        box = browser.find_element(By.CSS_SELECTOR, "#pane-result .window").rect
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for spread in (20, 60, 120):
            points = [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}]
            kind = "touchStart" if spread == 20 else "touchMove"
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        wait(browser, lambda: text(browser, "zoom") != "fit")
        browser.find_element(By.CSS_SELECTOR, "[data-decision=release]").click()
        wait(browser, lambda: shown(browser) == PHOTOS[1])


def test_a_folder_works_from_disk_and_its_decisions_come_back(tmp_path, results):
    cohort, folder = Cohort(results), tmp_path / "to-review"
    write_static(cohort, folder, "dentist")
    with chromium(tmp_path) as browser:
        show(browser, (folder / "index.html").as_uri())
        press(browser, "r")
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        browser.refresh()
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        assert "1 of 4" in text(browser, "count")
        press(browser, "f")
        wait(browser, lambda: shown(browser) == PHOTOS[2])
        assert decided(results) == []
        browser.find_element(By.ID, "export").click()
        file = tmp_path / "downloads" / "review-decisions.json"
        wait(browser, file.is_file)
        assert not troubles(browser)
    assert len(json.loads(file.read_text())["decisions"]) == 2
    assert import_decisions(cohort, file) == {"taken": 2, "known": 0, "changed": 0}
    assert decided(results) == [(PHOTOS[0], "release"), (PHOTOS[1], "another_face")]


def test_two_reviewers_learn_of_their_disagreement(browser, tmp_path):
    results = write_results(tmp_path / "results", reviewers=2)
    with serving(results, 1) as first, serving(results, 2, "privacy_officer") as second:
        show(browser, first.address)
        press(browser, "r")
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        show(browser, second.address)
        assert "Reviewer 1" not in text(browser, "verdict")
        press(browser, "f")
        wait(browser, lambda: shown(browser) == PHOTOS[1])
        browser.find_element(By.CSS_SELECTOR, "#filter [value=disagreement]").click()
        wait(browser, lambda: shown(browser) == PHOTOS[0])
        assert "disagree" in text(browser, "verdict")
        assert "Reviewer 1 (clinician)" in text(browser, "verdict")


def test_from_a_wrong_area_to_its_mask_and_back(browser, results):
    """The mask page opens in a tab of its own, sends what is drawn, and intake takes it in place of the sheet's."""

    def draw(photo):
        return mask_page(read_photograph(results / "private", ["s0000"], photo), sends=True)

    sheet = tables.from_rows([{"row": row, "path": "photo.jpg"} for row in range(2, 8)], tables.COHORT)
    tables.write(sheet, results / "private" / "shards" / "s0000" / "cohort.parquet", tables.COHORT)
    assert masks_of_shard(results / "private", "s0000") == "none"
    with serving(results, mask_page=draw) as server:
        show(browser, server.address)
        review = browser.current_window_handle
        press(browser, "a")
        wait(browser, lambda: len(browser.window_handles) == 2)
        assert shown(browser) == PHOTOS[0]  # the reviewer comes back to it
        browser.switch_to.window(next(one for one in browser.window_handles if one != review))
        wait(browser, lambda: "present area" in text(browser, "state"))
        assert not browser.find_element(By.ID, "open-label").is_displayed()  # no other photograph gets in
        browser.find_element(By.ID, "clear").click()
        browser.find_element(By.ID, "save").click()
        wait(browser, lambda: "empty" in text(browser, "state"))
        canvas = browser.find_element(By.ID, "canvas")
        canvas.send_keys(Keys.ENTER)  # a dab in the middle
        browser.find_element(By.ID, "save").click()
        wait(browser, lambda: "Saved" in text(browser, "state"))
        assert not troubles(browser)
        browser.close()
        browser.switch_to.window(review)
        browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
        wait(browser, lambda: "The mask is drawn" in text(browser, "verdict"))
        assert browser.find_element(By.ID, "draw").text == "Change the mask"
    mask = read_mask(results / "private", "s0000", PHOTOS[0])
    assert mask.shape == (SIDE, SIDE)
    assert mask[SIDE // 2, SIDE // 2] == 255
    assert 0 < (mask > 0).mean() < 0.2
    assert masks_of_shard(results / "private", "s0000") != "none"  # so intake runs again
    assert np.array_equal(read_photograph(results / "private", ["s0000"], PHOTOS[0]).area, mask)
