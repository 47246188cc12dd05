"""A rater's folder in a real Chromium, from disk: answer, close, go on, wait, export, read in."""

from __future__ import annotations

import json
import time

import pytest
from chromium import chromium
from panel_release import small_settings, write_small_release
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from deidlib.panel.answers import read_answers
from deidlib.panel.design import design_study

pytestmark = pytest.mark.browser
SIZES = {"realism": 6, "reading": 4, "usefulness": 3, "identity": 4}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    release, private = write_small_release(tmp_path_factory.mktemp("release"), patients=10)
    settings = small_settings(raters=2, acquainted=1, photographs=SIZES, contact="Ms Example, room 7")
    return design_study(settings, release, private, None, private / "panel" / "first"), private / "panel" / "first"


@pytest.fixture
def browser(study, tmp_path):
    """A page that nobody answered yet, in a Chromium of its own: nothing is stored in it."""
    with chromium(tmp_path) as opened:
        opened.get(address(study))
        yield opened


def address(study, rater="rater-01"):
    return (study[1] / "raters" / rater / "index.html").as_uri()


def wait(browser, condition):
    return WebDriverWait(browser, 20, 0.05).until(lambda _: condition())


def click(browser, selector):
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, selector))[0].click()


def picture(browser):
    return browser.find_element(By.ID, "subject").get_attribute("src")


def stored(browser):
    return browser.execute_script("return JSON.parse(localStorage.getItem(storageKey) || '{}')")


def begin(browser, session=1):
    click(browser, f"[data-session='{session}']")
    click(browser, "#go")
    wait(browser, lambda: browser.find_elements(By.ID, "subject"))


def answer(browser, number=0):
    for field in browser.find_elements(By.CSS_SELECTOR, "fieldset"):
        options = field.find_elements(By.CSS_SELECTOR, "input")
        browser.execute_script("arguments[0].click()", options[number % len(options)])
    click(browser, "#next")


def finish(browser):
    number = 0
    while not browser.find_elements(By.ID, "to-start"):
        if browser.find_elements(By.ID, "go"):
            click(browser, "#go")
        else:
            answer(browser, number)
            number += 1


def let_days_pass(browser):
    """Set the ends of the sessions back, as if the wash-out were over."""

    def passed():
        if not stored(browser):  # Chromium may hand another process the storage as it was a moment ago
            browser.refresh()
            return False
        browser.execute_script(
            "const kept = JSON.parse(localStorage.getItem(storageKey));"
            "for (const times of Object.values(kept.sessions).filter((one) => one.finished))"
            " times.finished = '2026-01-01T00:00:00Z';"
            "localStorage.setItem(storageKey, JSON.stringify(kept));"
        )
        browser.refresh()
        ends = browser.execute_script("return Object.values(state.sessions).map((times) => times.finished)")
        return set(ends) == {"2026-01-01T00:00:00Z"}

    wait(browser, passed)


def exported(browser, folder):
    downloads = folder / "downloads"
    click(browser, "#export")
    wait(browser, lambda: list(downloads.glob("answers-*.json")))
    return next(downloads.glob("answers-*.json"))


def troubles(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_whole_study_is_answered_exported_and_read(browser, study, tmp_path):
    for session in (1, 2, 3, 4):
        begin(browser, session)
        finish(browser)
        let_days_pass(browser)
    path = exported(browser, tmp_path)
    returned = read_answers(study[0], [path])[0]
    assert set(returned.answers) == {trial.id for trial in study[0].of("rater-01")}
    assert all(one.seconds >= 0 for one in returned.answers.values())
    assert any(value is None for one in returned.answers.values() for value in one.values.values())  # cannot be judged
    assert set(returned.ended) == {1, 2, 3, 4}
    assert returned.simulated is True  # a browser that a program drives is no person
    assert troubles(browser) == []


def test_answers_survive_closing_and_the_rater_goes_on_where_he_was(study, tmp_path):
    with chromium(tmp_path) as browser:
        browser.get(address(study))
        begin(browser)
        answer(browser)
        answer(browser, 1)
        at = picture(browser)
        first = stored(browser)["answers"]
        assert len(first) == 2
    with chromium(tmp_path) as browser:
        browser.get(address(study))
        assert stored(browser)["answers"] == first
        begin(browser)
        assert picture(browser) == at
        assert stored(browser)["answers"] == first


def test_going_back_changes_an_answer_and_counts_it(browser):
    begin(browser)
    answer(browser, 0)
    click(browser, "#back")
    answer(browser, 1)
    (only,) = stored(browser)["answers"].values()
    assert only["values"] == {"made": 1}
    assert only["changes"] == 1


def test_the_keyboard_alone_is_enough(browser):
    begin(browser)
    before = picture(browser)
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys("2")
    assert browser.find_element(By.CSS_SELECTOR, "input[value='1']").is_selected()
    body.send_keys(Keys.ENTER)
    wait(browser, lambda: picture(browser) != before)
    browser.find_element(By.TAG_NAME, "body").send_keys("z")
    assert browser.find_element(By.ID, "zoom").get_attribute("open") is not None
    browser.find_element(By.ID, "zoom").send_keys(Keys.ESCAPE)
    assert browser.find_element(By.ID, "zoom").get_attribute("open") is None


def test_nobody_goes_on_without_an_answer(browser):
    begin(browser)
    assert not browser.find_element(By.ID, "next").is_enabled()
    at = picture(browser)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ENTER)
    assert picture(browser) == at
    assert "answers" not in stored(browser) or stored(browser)["answers"] == {}


def test_the_second_reading_waits_for_the_washout(browser):
    begin(browser, 1)
    finish(browser)
    click(browser, "#to-start")
    assert not browser.find_element(By.CSS_SELECTOR, "[data-session='2']").is_enabled()
    assert "opens on" in browser.find_element(By.ID, "main").text
    let_days_pass(browser)
    assert browser.find_element(By.CSS_SELECTOR, "[data-session='2']").is_enabled()
    assert not browser.find_element(By.CSS_SELECTOR, "[data-session='3']").is_enabled()


def test_at_another_computer_the_exported_file_goes_on(browser, study, tmp_path):
    begin(browser)
    answer(browser)
    answer(browser)
    click(browser, "#leave")
    path = exported(browser, tmp_path)
    browser.execute_script("localStorage.clear()")
    browser.get("about:blank")
    browser.get(address(study))
    browser.find_element(By.ID, "import").send_keys(str(path))
    wait(browser, lambda: "2 answers" in browser.find_element(By.ID, "main").text)
    assert len(stored(browser)["answers"]) == 2
    assert "Go on" in browser.find_element(By.CSS_SELECTOR, "[data-session='1']").text


def test_a_file_of_another_rater_changes_nothing(browser, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"study": "other", "rater": "rater-02", "answers": {"x": {}}, "sessions": {}}))
    browser.find_element(By.ID, "import").send_keys(str(path))
    wait(browser, lambda: "Nothing was changed" in browser.find_element(By.ID, "main").text)


def test_two_tabs_lose_nothing(browser, study):
    begin(browser)
    answer(browser)
    browser.switch_to.new_window("tab")
    browser.get(address(study))
    begin(browser)
    answer(browser)
    second = set(stored(browser)["answers"])
    browser.close()
    browser.switch_to.window(browser.window_handles[0])
    answer(browser)
    assert second <= set(stored(browser)["answers"])


def test_a_missing_picture_is_told(browser, study):
    first = next(trial for trial in study[0].of("rater-01"))
    path = study[1] / "raters" / "rater-01" / "pictures" / first.pictures[0].file
    kept = path.read_bytes()
    path.unlink()
    try:
        begin(browser)
        wait(browser, lambda: "cannot be shown" in browser.find_element(By.ID, "main").text)
    finally:
        path.write_bytes(kept)


def test_seconds_count_while_the_picture_is_shown(browser):
    begin(browser)
    wait(browser, lambda: browser.execute_script("return current.since !== null"))
    time.sleep(1.2)
    answer(browser)
    (only,) = stored(browser)["answers"].values()
    assert 1.0 <= only["seconds"] < 30


def test_raters_who_know_the_patients_are_asked_first_whether_they_know_who_it_is(browser, study):
    browser.get(address(study, "acquainted-01"))
    begin(browser)
    fields = browser.find_elements(By.CSS_SELECTOR, "fieldset")
    assert [field.get_attribute("data-question") for field in fields] == ["recognised", "pick"]


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (820, 1180), (390, 844)])
def test_nothing_is_cut_off_at_the_side(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for session in (1, 2, 3, 4):
        begin(browser, session)
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        next_button = browser.find_element(By.ID, "next").rect
        if session != 3:
            bottom = browser.execute_script("return document.getElementById('next').getBoundingClientRect().bottom")
            assert bottom <= height
        assert next_button["height"] >= 44
        finish(browser)
        let_days_pass(browser)


def test_no_picture_is_printed(browser):
    begin(browser)
    subject = browser.find_element(By.ID, "subject")
    assert subject.is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not subject.is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize(("width", "height"), [(1180, 500), (820, 900)])
def test_the_next_question_is_on_the_screen(browser, width, height):
    """A reading has more questions than a small screen: the one that is to be answered scrolls into view."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    begin(browser, 1)
    finish(browser)
    let_days_pass(browser)
    begin(browser, 2)
    for _ in browser.find_elements(By.CSS_SELECTOR, "fieldset")[:-1]:
        browser.find_element(By.TAG_NAME, "body").send_keys("1")
        # neither the picture nor the buttons, which stay where they are, lie over its first or last line
        covered = browser.execute_script(
            "const parts = [...document.querySelectorAll('fieldset.active :is(legend, label)')];"
            "return parts.filter((part) => { const box = part.getBoundingClientRect();"
            " return !part.contains(document.elementFromPoint(box.left + 9, box.top + box.height / 2)); }).length"
        )
        assert covered == 0


def test_the_page_asks_no_network_for_anything(browser):
    begin(browser)
    names = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(name.startswith("file:") for name in names)
