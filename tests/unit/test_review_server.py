"""The reviewer's server and folder: who is answered, what is shown, what is written."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import stat
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from review_results import HOSTILE, SIDE, specs, write_results
from shard_tables import draw_face, ids

from deidlib.errors import InputError
from deidlib.report.mask import mask_page, read_photograph
from deidlib.review.cases import Cohort
from deidlib.review.decisions import read_decisions
from deidlib.review.server import ReviewServer
from deidlib.review.static import import_decisions, write_static
from deidlib.storage import images, tables
from deidlib.storage.images import decode_png


@contextmanager
def serving(results, reviewer=1, role="clinician", mask_page=None):
    with ReviewServer(Cohort(results), role, reviewer, mask_page=mask_page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, place, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    path = place if place.startswith("/") else f"/{server.token}/{place}"
    sent = {
        "Host": f"127.0.0.1:{server.server_port}",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data, dict(answer.getheaders())


def get(server, place):
    status, data, _ = ask(server, place)
    assert status == 200, data
    return json.loads(data)


def decide(server, photo, decision, **more):
    shown = get(server, f"photo/{photo}")
    given = {"photo": photo, "sha256": shown["sha256"], "decision": decision, "seen": shown["seen"], **more}
    status, data, _ = ask(server, "decision", json.dumps(given))
    return status, json.loads(data)


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "results")


PHOTOS = [ids(spec)[1] for spec in specs()]


def test_closing_waits_for_an_answer_but_not_for_a_connection_that_is_kept_open(results):
    before = set(threading.enumerate())
    with serving(results) as server:
        idle, asking = (http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20) for _ in range(2))
        for connection in (idle, asking):
            connection.request("GET", f"/{server.token}/overview")
            assert connection.getresponse().read()
        asking.request("GET", f"/{server.token}/picture/{PHOTOS[0]}/original")
        started = time.monotonic()
    assert time.monotonic() - started < 20  # a connection that says nothing would be kept for 60 s
    assert set(threading.enumerate()) == before
    assert decode_png(asking.getresponse().read()).shape == (SIDE, SIDE, 3)


def test_nobody_without_the_token_is_answered(results):
    with serving(results) as server:
        for place in (
            "/",
            "/overview",
            f"/{server.token}",
            f"/{server.token[:-1]}/overview",
            f"/x{server.token}/overview",
        ):
            status, data, _ = ask(server, place)
            assert status == 403
            assert server.token.encode() not in data


def test_nobody_who_came_by_another_name_is_answered(results):
    with serving(results) as server:
        port = server.server_port
        assert ask(server, "overview", Host=f"localhost:{port}")[0] == 200
        assert ask(server, "overview", Host="localhost:9999")[0] == 200  # through a tunnel from another port
        for host in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"10.0.0.1:{port}", ""):
            assert ask(server, "overview", Host=host)[0] == 403
        assert ask(server, "overview", Origin="http://evil.example")[0] == 403
        assert ask(server, "overview", Sec_Fetch_Site="cross-site")[0] == 403
        body = json.dumps({"photo": PHOTOS[0], "decision": "release"})
        assert ask(server, "decision", body, Origin="null")[0] == 403
        assert ask(server, "decision", body, Content_Type="text/plain")[0] == 400
    assert read_decisions(results / "private", "s0000") == []


def test_the_server_listens_on_this_machine_alone(results):
    with serving(results) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_nothing_is_cached_or_loaded_from_outside(results):
    with serving(results) as server:
        for place in ("", "review.js", "review.css", "overview", f"picture/{PHOTOS[0]}/original"):
            status, data, headers = ask(server, place)
            assert status == 200
            assert headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in headers
            if place in ("", "review.js", "review.css"):
                assert set(re.findall(rb"https?://[^\"' )]+", data)) <= {b"http://www.w3.org/2000/svg"}


def test_original_and_result_are_shown_pixel_for_pixel(results):
    with serving(results) as server:
        _, original, _ = ask(server, f"picture/{PHOTOS[0]}/original")
        _, result, _ = ask(server, f"picture/{PHOTOS[0]}/result")
        assert np.array_equal(decode_png(original), draw_face(2, SIDE))
        assert np.array_equal(decode_png(result), draw_face(2, SIDE))  # attempt 0 of row 2
        status, thumbnail, _ = ask(server, f"thumbnail/{PHOTOS[0]}/result")
        assert status == 200
        assert thumbnail.startswith(b"\xff\xd8")


def test_patients_are_shown_whole_with_reasons_and_plain_warnings(results):
    with serving(results) as server:
        patients = get(server, "overview")["patients"]
        assert [[photo["held"] for photo in patient["photos"]] for patient in patients] == [
            [False, False],
            [False, False],
            [True],
            [True],
        ]
        assert any("seam" in text for text in get(server, f"photo/{PHOTOS[3]}")["remarks"])
        failed = get(server, f"photo/{PHOTOS[4]}")
        assert "unnatural" in " ".join(failed["remarks"])
        assert failed["attempt"] == 1
        no_consent = get(server, f"photo/{PHOTOS[5]}")
        assert no_consent["allowed"] == []
        assert "consent" in no_consent["because"].lower()


def test_a_decision_is_on_the_disk_before_it_is_confirmed(results):
    with serving(results, role="orthodontist") as server:
        status, told = decide(server, PHOTOS[0], "withhold", reason="detail", note="earring")
        assert (status, told["mine"]) == (200, "withhold")
        (one,) = read_decisions(results / "private", "s0000")
    assert (one.photo, one.decision, one.reason, one.role) == (PHOTOS[0], "withhold", "detail", "orthodontist")
    with serving(results) as server:  # another start: it is still there
        assert get(server, "overview")["patients"][0]["photos"][0]["mine"] == "withhold"


def test_what_cannot_be_decided_is_refused(results):
    with serving(results) as server:
        assert decide(server, PHOTOS[4], "release")[0] == 400  # the checks hold it back
        assert decide(server, PHOTOS[5], "release")[0] == 409  # it has no image
        assert decide(server, PHOTOS[0], "withhold")[0] == 400  # no reason
        assert decide(server, PHOTOS[0], "release", note="x" * 501)[0] == 400
        assert ask(server, "decision", "[]")[0] == 400
        assert ask(server, "decision", "x" * 20000)[0] == 400
        assert ask(server, "decision", json.dumps({"photo": "nobody"}))[0] == 400
        for place in ("photo/nobody", "picture/../../original", f"picture/{PHOTOS[0]}/../../key"):
            assert ask(server, place)[0] in (400, 404)
    assert read_decisions(results / "private", "s0000") == []


def test_a_picture_that_changed_wants_another_look(results):
    with serving(results) as server:
        before = get(server, f"photo/{PHOTOS[0]}")
        assert decide(server, PHOTOS[0], "release")[0] == 200
        change_image(results, PHOTOS[0])
        stale = {"photo": PHOTOS[0], "sha256": before["sha256"], "decision": "release"}
        assert ask(server, "decision", json.dumps(stale))[0] == 409
        after = get(server, f"photo/{PHOTOS[0]}")
        assert after["sha256"] != before["sha256"]
        assert after["mine"] is None
        assert len(read_decisions(results / "private", "s0000")) == 1


def change_image(results, photo):
    path = results / "private" / "shards" / "s0000" / "attempt-0" / "blended.parquet"
    rows = tables.read(path, tables.BLENDED).to_pylist()
    for row in rows:
        if row["release_photo_id"] == photo:
            row["image"] = images.encode_png(draw_face(4711, SIDE))
    tables.write(tables.from_rows(rows, tables.BLENDED), path, tables.BLENDED)


def test_a_second_window_does_not_overwrite_unseen(results):
    with serving(results) as one, serving(results) as other:
        before = get(one, f"photo/{PHOTOS[0]}")
        assert decide(other, PHOTOS[0], "withhold", reason="other")[0] == 200
        stale = {"photo": PHOTOS[0], "sha256": before["sha256"], "decision": "release", "seen": before["seen"]}
        assert ask(one, "decision", json.dumps(stale))[0] == 409
        assert decide(one, PHOTOS[0], "release")[0] == 200


def test_two_reviewers_look_without_seeing_each_other_first(tmp_path):
    results = write_results(tmp_path / "results", reviewers=2)
    with serving(results, 1) as first, serving(results, 2, "privacy_officer") as second:
        assert decide(first, PHOTOS[0], "withhold", reason="recognisable")[0] == 200
        unseen = get(second, f"photo/{PHOTOS[0]}")
        assert (unseen["state"], unseen["decisions"], unseen["mine"]) == ("undecided", [], None)
        _, told = decide(second, PHOTOS[0], "release")
        assert told["state"] == "disagreement"
        assert {one["role"] for one in told["decisions"]} == {"clinician", "privacy_officer"}


def test_a_folder_on_disk_takes_the_same_decisions(results, tmp_path):
    cohort, folder = Cohort(results), tmp_path / "to-review"
    assert write_static(cohort, folder, "surgeon") == len(PHOTOS)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in folder.rglob("*"))
    assert "ORIGINAL" in (folder / "NOTICE.txt").read_text()
    text = (folder / "data.js").read_text() + (folder / "index.html").read_text()
    assert HOSTILE not in text
    assert "onerror" not in text  # ids of the sheet are not in it
    assert "<b>" not in (folder / "data.js").read_text()  # nor can a cell end the script
    data = json.loads((folder / "data.js").read_text().removeprefix("window.REVIEW_DATA = ").rstrip(";\n"))
    shown = data["details"][PHOTOS[0]]
    made = {name: shown[name] for name in ("sha256", "attempt")} | {"photo": PHOTOS[0], "decision": "release"}
    made |= {"reason": None, "note": "", "role": "surgeon", "reviewer": 1, "time": "2026-03-01T10:00:00+00:00"}
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps({"format": data["format"], "decisions": [made]}))
    assert import_decisions(cohort, file) == {"taken": 1, "known": 0, "changed": 0}
    assert import_decisions(cohort, file) == {"taken": 0, "known": 1, "changed": 0}
    assert [one.role for one in read_decisions(results / "private", "s0000")] == ["surgeon"]


def test_an_import_does_not_replace_what_was_decided_later_or_what_changed(results, tmp_path):
    cohort = Cohort(results)
    with serving(results) as server:
        shown = get(server, f"photo/{PHOTOS[0]}")
        decide(server, PHOTOS[0], "withhold", reason="other")
        other = get(server, f"photo/{PHOTOS[1]}")
    row = {"reason": None, "note": "", "role": "surgeon", "reviewer": 1, "time": "2020-01-01T10:00:00+00:00"}
    old = {**row, "photo": PHOTOS[0], "sha256": shown["sha256"], "attempt": 0, "decision": "release"}
    changed = {**row, "photo": PHOTOS[1], "sha256": shown["sha256"], "attempt": 0, "decision": "release"}
    assert other["sha256"] != shown["sha256"]
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps({"format": "deidlib review 1", "decisions": [old, changed]}))
    assert import_decisions(cohort, file) == {"taken": 0, "known": 1, "changed": 1}
    assert [one.decision for one in read_decisions(results / "private", "s0000")] == ["withhold"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "deidlib review 1"}', '{"format": "x", "decisions": []}'])
def test_what_is_no_export_is_refused(results, tmp_path, text):
    file = tmp_path / "decisions.json"
    file.write_text(text)
    with pytest.raises(InputError):
        import_decisions(Cohort(results), file)


def test_one_wrong_decision_in_a_file_and_none_is_taken(results, tmp_path):
    cohort = Cohort(results)
    digest = cohort.digest(cohort.case(PHOTOS[0]))
    good = {"photo": PHOTOS[0], "sha256": digest, "attempt": 0, "decision": "release", "reason": None, "note": ""}
    good |= {"role": "surgeon", "reviewer": 1, "time": "2026-03-01T10:00:00+00:00"}
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps({"format": "deidlib review 1", "decisions": [good, {**good, "role": "Dr Person"}]}))
    with pytest.raises(InputError, match="decision 2"):
        import_decisions(cohort, file)
    assert read_decisions(results / "private", "s0000") == []


def test_a_folder_that_exists_is_left_alone(results, tmp_path):
    with pytest.raises(InputError, match="exists"):
        write_static(Cohort(results), results, "clinician")
    assert (results / "private").is_dir()


def test_a_folder_without_a_run_is_named_as_such(tmp_path, results):
    with pytest.raises(InputError, match="results folder of a run"):
        Cohort(tmp_path)
    shutil.rmtree(results / "private")
    with pytest.raises(InputError, match="planned"):
        Cohort(results)


def test_a_mask_is_kept_where_intake_finds_it_and_what_is_none_is_refused(results):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[50:90, 60:100] = 255
    refused = {
        "size": images.encode_png(mask[:-1]),
        "empty": images.encode_png(np.zeros_like(mask)),
        "whole": images.encode_png(np.full_like(mask, 255)),
        "text": b"this is no image",
    }
    with serving(results, mask_page=lambda photo: "<!DOCTYPE html>") as server:
        for name, data in refused.items():
            assert ask(server, f"mask/{PHOTOS[0]}", data, Content_Type="image/png")[0] == 400, name
        good = images.encode_png(mask)
        assert ask(server, f"mask/{PHOTOS[0]}", good, Content_Type="text/plain")[0] == 400
        assert ask(server, "mask/..%2F..%2Fevil", good, Content_Type="image/png")[0] == 400
        assert not (results / "private" / "review" / "masks").exists()
        assert ask(server, f"mask/{PHOTOS[0]}", good, Content_Type="image/png")[0] == 200
        assert get(server, f"photo/{PHOTOS[0]}")["mask"] is True
    kept = results / "private" / "review" / "masks" / "s0000" / f"{PHOTOS[0]}.png"
    assert np.array_equal(decode_png(kept.read_bytes()), mask)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in list(kept.parents)[:3])
    with serving(results) as server:  # a review that opens no mask page takes no mask
        assert ask(server, f"mask/{PHOTOS[0]}", good, Content_Type="image/png")[0] == 404


def test_no_mask_is_drawn_on_a_photograph_that_was_not_decoded(results):
    """Its size is not known, so no mask can fit it; the page says so, and nothing is written."""

    def draw(photo):
        return mask_page(read_photograph(results / "private", ["s0000"], photo), sends=True)

    png = images.encode_png(np.eye(SIDE, dtype=np.uint8) * 255)
    with serving(results, mask_page=draw) as server:
        assert get(server, f"photo/{PHOTOS[5]}")["size"] == [None, None]
        for body in (png, None):  # sent past the page, and the page itself
            status, data, _ = ask(server, f"mask/{PHOTOS[5]}", body, **({"Content_Type": "image/png"} if body else {}))
            assert status == 400, data
            assert "decoded" in json.loads(data)["error"]
        # one that was decoded, and that the checks hold back
        assert ask(server, f"mask/{PHOTOS[4]}", png, Content_Type="image/png")[0] == 200
    masks = results / "private" / "review" / "masks"
    assert [path.stem for path in masks.rglob("*.png")] == [PHOTOS[4]]
