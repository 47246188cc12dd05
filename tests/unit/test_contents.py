"""Files are known by what they hold: a change is seen whatever its date says, and nothing is read twice for nothing."""

import hashlib
import os

import pytest

from deidlib.intake import cohort, contents


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read."""
    names, read = [], contents._read
    monkeypatch.setattr(contents, "_read", lambda file: names.append(os.path.basename(file)) or read(file))
    return names


def test_a_file_is_read_once_and_again_when_its_state_differs(tmp_path, reads):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
        files.append(str(tmp_path / name))
    known = {}
    assert contents.digests(files, known) == [sha(b"a"), sha(b"b")]
    assert contents.digests(files, known) == [sha(b"a"), sha(b"b")]
    assert sorted(reads) == ["a", "b"]
    (tmp_path / "a").touch()
    assert contents.digests(files, known) == [sha(b"a"), sha(b"b")]
    assert sorted(reads) == ["a", "a", "b"]


@pytest.mark.parametrize("way", ["in place", "renamed", "copied with its date"])
def test_another_content_of_the_same_size_and_date_is_seen(tmp_path, way):
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"first")
    os.utime(file, ns=(7, 7))
    known = {}
    contents.digests([str(file)], known)
    other.write_bytes(b"other")
    os.utime(other, ns=(7, 7))
    if way == "renamed":
        other.replace(file)
    else:
        file.write_bytes(b"other")
        os.utime(file, ns=(7, 7))
    assert file.stat().st_mtime_ns == 7
    assert contents.digests([str(file)], known) == [sha(b"other")]


def test_what_was_read_is_remembered_and_a_damaged_memory_only_costs_time(tmp_path, reads):
    (tmp_path / "a").write_bytes(b"a")
    known, table = {}, tmp_path / "contents.parquet"
    contents.digests([str(tmp_path / "a")], known)
    contents.write_known(known, table)
    assert contents.digests([str(tmp_path / "a")], contents.read_known(table)) == [sha(b"a")]
    assert reads == ["a"]
    table.write_bytes(table.read_bytes()[:-9])
    assert contents.read_known(table) == {}
    assert contents.read_known(tmp_path / "none") == {}


def test_a_pipe_is_no_file_and_does_not_stop_the_plan(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert contents.digests([str(tmp_path / "pipe"), str(tmp_path / "none"), None], {}) == [
        "missing",
        "missing",
        "outside",
    ]


def test_the_state_of_a_sheet_follows_its_cells_and_its_files_and_not_its_date(tmp_path):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("patient_id\tphoto_id\tpath\tconsent\nP\tF\ta\tyes\n")
    (tmp_path / "a").write_bytes(b"first")
    first = cohort.sheet_state(sheet)
    os.utime(sheet, (5, 5))
    assert cohort.sheet_state(sheet) == first
    sheet.write_text(sheet.read_text().replace("yes", "no "))
    os.utime(sheet, (5, 5))
    second = cohort.sheet_state(sheet)
    (tmp_path / "a").write_bytes(b"other")
    assert len({first, second, cohort.sheet_state(sheet)}) == 3
