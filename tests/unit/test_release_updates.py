"""Versions that follow each other: additions, corrections, withdrawals, and what the next recipient is told."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import shutil
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_tables import CONFIG, MODELS, Spec, ids, outcomes_of, publish, verdict_on, write_private, write_release

from deidlib.release import ReleaseError, compare_releases, content_digest, verify_release
from deidlib.release.leftovers import drop_leftovers
from deidlib.release.versions import is_version, precedence, versions_in
from deidlib.storage import images, tables

SPECS = [
    Spec("patient-a", "photo-1"),
    Spec("patient-a", "photo-2", shard="s0000"),
    Spec("patient-b", "photo-3", shard="s0001"),
    Spec("patient-c", "photo-4", shard="s0001"),
]
NO_CONSENT = ("intake", "consent_missing")


def release(folder: Path, version: str, specs=SPECS, attempts: int = 1, **blocks) -> Path:
    shards = write_private(folder / "private", specs, attempts)
    config = copy.deepcopy(CONFIG) | {"attempts": attempts}
    for name, block in blocks.items():
        config[name] = config[name] | block if isinstance(block, dict) else block
    return write_release(folder / "private", folder / "release", shards, attempts, version, config, MODELS)


def without(specs: list[Spec], *patients: str) -> list[Spec]:
    """The sheet after patients revoked consent: their rows stay, stopped at intake, with no image."""
    return [dataclasses.replace(s, stopped=NO_CONSENT) if s.patient in patients else s for s in specs]


def withdraw(folder: Path) -> None:
    """Empty what intake and the later stages hold of photographs without consent, as a new run does."""
    for path in (folder / "private" / "shards").rglob("photos.parquet"):
        rows = tables.read(path, tables.PHOTOS).to_pylist()
        for row in rows:
            if row["status"] == tables.QUARANTINED:
                row |= {"image": None, "mask": None, "pixels_sha256": None}
        tables.write(tables.from_rows(rows, tables.PHOTOS), path, tables.PHOTOS)


def everything(folder: Path) -> bytes:
    """All bytes below a folder, Parquet tables also as plain text."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts += [path.name.encode(), path.read_bytes()]
            if path.suffix == ".parquet":
                parts += [
                    b"".join(v for v in column.to_pylist() if isinstance(v, bytes)) for column in pq.read_table(path)
                ]
                parts.append(str(pq.read_table(path).to_pylist()).encode())
    return b"".join(parts)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=2, max_size=6, unique=True))
def test_versions_are_ordered_as_numbers_not_as_text(numbers):
    names = [".".join(map(str, version)) for version in numbers]
    assert sorted(names, key=precedence) == [".".join(map(str, version)) for version in sorted(numbers)]


def test_precedence_is_that_of_semantic_versioning():
    # the example of semver.org, clause 11, and numbers
    marks = ["-alpha", "-alpha.1", "-alpha.beta", "-beta", "-beta.2", "-beta.11", "-rc.1", ""]
    ordered = [*(f"1.0.0{mark}" for mark in marks), "1.0.1", "1.10.0"]
    assert sorted(sorted(ordered), key=precedence) == ordered
    assert not any(
        map(is_version, ("1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+b", "1.0.0\n", "v1.0.0", "١.0.0"))
    )


def test_a_version_that_goes_backwards_is_refused_with_the_mend(tmp_path):
    release(tmp_path, "1.9.0")
    release(tmp_path, "1.10.0", SPECS[:3])
    for version in ("1.2.0", "1.10.0-rc.1", "0.9.0"):
        with pytest.raises(
            ReleaseError, match=rf"version {version} goes backwards: 1.10.0 .* 1.10.1 .* 1.11.0 .* 2.0.0"
        ):
            release(tmp_path, version, SPECS[:2])
    (tmp_path / "release" / "3.0.0").mkdir()  # Snakemake makes an output's folder before a job, which then may fail
    assert versions_in(tmp_path / "release") == ["1.9.0", "1.10.0"]
    assert release(tmp_path, "1.9.0").name == "1.9.0", "an earlier version made again is the same and is left as it is"
    assert release(tmp_path, "2.0.0-beta", SPECS[:2]).name == "2.0.0-beta"


def test_same_photographs_have_one_digest_whatever_version_date_and_papers_say(tmp_path):
    one = release(tmp_path / "one", "1.0.0")
    two = release(tmp_path / "two", "3.1.0", release={"date": "2027-01-01", "name": "Other name", "embed": True})
    assert content_digest(one) == content_digest(two)
    assert (one / "SHA256SUMS").read_bytes() != (two / "SHA256SUMS").read_bytes()
    assert content_digest(release(tmp_path / "three", "1.0.0", SPECS[:3])) != content_digest(one)


def test_without_a_date_in_the_configuration_a_version_keeps_its_first(tmp_path):
    folder = release(tmp_path, "1.0.0", release={"date": None})
    card, crate = (folder / "README.md").read_text(), (folder / "ro-crate-metadata.json").read_text()
    date = json.loads((folder / "settings.json").read_text())["release"]["date"]
    assert date in card
    assert f'"datePublished": "{date}"' in crate
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, elsewhere)
    text = (elsewhere / "release/1.0.0/README.md").read_text().replace(date, "2020-02-02")
    (elsewhere / "release/1.0.0/README.md").write_text(text)
    with pytest.raises(ReleaseError, match="another content"):  # as on a later day: the date there counts
        release(elsewhere, "1.0.0", release={"date": None})
    with pytest.raises(ReleaseError, match="'2026-02-30' is no date"):
        release(tmp_path, "1.0.1", release={"date": "2026-02-30"})


def test_untouched_photographs_keep_bytes_and_paths(tmp_path):
    old = release(tmp_path, "1.0.0")
    new = release(tmp_path, "1.1.0", [*without(SPECS, "patient-c"), Spec("patient-d", "photo-5", shard="s0002")])
    for spec in SPECS[:3]:
        name = ids(spec)[1]
        (path,) = [p.relative_to(old) for p in (old / "images").rglob(f"{name}.png")]
        assert (new / path).read_bytes() == (old / path).read_bytes()
    assert verify_release(new) == []


def test_a_withdrawn_patient_leaves_no_trace_but_ids_to_delete(tmp_path):
    old = release(tmp_path, "1.0.0", attempts=3)
    patient, photo = ids(SPECS[2])
    pixels = images.decode_png(next(old.rglob(f"{photo}.png")).read_bytes())
    blended = tables.read(tmp_path / "private/shards/s0001/attempt-0/blended.parquet", tables.BLENDED).to_pylist()
    table_bytes = next(row["image"] for row in blended if row["release_photo_id"] == photo)
    (tmp_path / "private/shards/s0001/.blended.parquet.k1ll3d").write_bytes(table_bytes)  # a run that was killed
    attempt = tmp_path / "private/shards/s0001/attempt-2"
    shutil.copy(attempt.with_name("attempt-0") / "blended.parquet", attempt / "blended.parquet")
    (tmp_path / "private" / "reviewer.html").write_bytes(base64.b64encode(table_bytes))
    assert table_bytes in everything(tmp_path / "private")

    specs = without(SPECS, "patient-b")
    write_private(tmp_path / "private", specs, 2)
    withdraw(tmp_path)
    config = CONFIG | {"attempts": 2}
    shards = ["s0000", "s0001"]
    removed = drop_leftovers(tmp_path / "private", shards, lambda shard: 2)  # as the command does first
    assert removed == [
        "reviewer.html",
        "shards/s0000/attempt-2",
        "shards/s0001/.blended.parquet.k1ll3d",
        "shards/s0001/attempt-2",
    ]
    new = write_release(tmp_path / "private", tmp_path / "release", shards, 2, "2.0.0", config, MODELS)

    assert (new / "tombstones.txt").read_text().split() == sorted([patient, photo])
    assert verify_release(new) == []
    rest = everything(new).replace("".join(f"{name}\n" for name in sorted([patient, photo])).encode(), b"")
    assert photo.encode() not in rest
    assert patient.encode() not in rest
    assert "**Delete what earlier versions held and this one does not**: 2 ids" in (new / "README.md").read_text()
    private = everything(tmp_path / "private")
    assert table_bytes not in private
    assert images.encode_png(pixels) not in private
    assert not attempt.exists()
    assert "consent" not in (new / "tombstones.txt").read_text()


def test_tombstones_are_carried_on_also_when_the_earlier_version_was_removed(tmp_path):
    release(tmp_path, "1.0.0")
    b, c = ids(SPECS[2]), ids(SPECS[3])
    release(tmp_path, "1.1.0", without(SPECS, "patient-b"))
    shutil.rmtree(tmp_path / "release" / "1.0.0")
    third = release(tmp_path, "1.2.0", without(SPECS, "patient-b", "patient-c"))
    assert (third / "tombstones.txt").read_text().split() == sorted([*b, *c])
    shutil.rmtree(tmp_path / "release" / "1.1.0")
    fourth = release(tmp_path, "1.3.0", without(SPECS, "patient-c"))
    assert (fourth / "tombstones.txt").read_text().split() == sorted(c), "consent given again: released, no tombstone"
    ledger = tmp_path / "private" / "released.parquet"
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert set(pq.read_table(ledger).column_names) == {"version", "release_photo_id", "release_patient_id"}


def command(folder: Path, version: str, specs: list[Spec], gate: bool = True):
    """``deidlib release`` as the workflow calls it, after attacks that passed the gate or did not."""
    shards = write_private(folder / "private", specs, 1)
    attacks = verdict_on(outcomes_of(folder / "private", shards, 1), gate)
    (folder / "private" / "reid").mkdir(exist_ok=True)
    (folder / "private" / "reid" / "attacks.json").write_text(json.dumps(attacks))
    (folder / "private" / "plan.json").write_text(json.dumps({"shards": shards}))
    settings = {"attempts": 1, "identity": "per_photo", "preset": CONFIG["preset"], "version": version}
    return publish(folder, version, settings)


def test_where_everybody_withdraws_there_is_no_version_but_a_list_of_all_that_is_to_be_deleted(tmp_path):
    assert command(tmp_path, "1.0.0", SPECS).exit_code == 0
    done = command(tmp_path, "2.0.0", without(SPECS, "patient-a", "patient-b", "patient-c"))
    assert done.exit_code == 1
    assert "7 ids of earlier versions are not to be released again: tell the recipients to delete them" in done.output
    assert not (tmp_path / "release" / "2.0.0").exists()
    everyone = sorted({name for spec in SPECS for name in ids(spec)})
    report = tmp_path / "report" / "2.0.0"
    assert (report / "tombstones.txt").read_text().split() == everyone
    assert json.loads((report / "audit.json").read_text())["tombstones"] == 7
    page = " ".join((report / "audit.html").read_text().split())
    assert "7 ids of earlier versions are not to be used any more" in page
    assert "<code>tombstones.txt</code> beside this document" in page
    # also where the version that is run again is the one that was released
    assert command(tmp_path, "1.0.0", without(SPECS, "patient-a", "patient-b", "patient-c")).exit_code == 1
    assert (tmp_path / "report" / "1.0.0" / "tombstones.txt").read_text().split() == everyone


def test_below_the_release_gate_those_who_withdrew_are_listed_and_those_who_wait_are_not(tmp_path):
    assert command(tmp_path, "1.0.0", SPECS).exit_code == 0
    assert command(tmp_path, "1.1.0", without(SPECS, "patient-b"), gate=False).exit_code == 1
    told = tmp_path / "report" / "1.1.0" / "tombstones.txt"
    assert told.read_text().split() == sorted(ids(SPECS[2]))
    assert command(tmp_path, "1.1.0", SPECS, gate=False).exit_code == 1
    assert not told.exists(), "consent given again"


def test_one_photograph_taken_back_keeps_its_patient(tmp_path):
    release(tmp_path, "1.0.0")
    new = release(tmp_path, "1.0.1", [SPECS[0], *SPECS[2:]])
    assert (new / "tombstones.txt").read_text().split() == [ids(SPECS[1])[1]]


def test_tombstones_also_without_the_private_ledger(tmp_path):
    release(tmp_path, "1.0.0")
    (tmp_path / "private" / "released.parquet").unlink()
    new = release(tmp_path, "1.1.0", SPECS[:3])
    assert (new / "tombstones.txt").read_text().split() == sorted(ids(SPECS[3]))


def test_damage_that_would_lose_tombstones_is_refused(tmp_path):
    old = release(tmp_path, "1.0.0")
    ledger = tmp_path / "private" / "released.parquet"
    whole = ledger.read_bytes()
    ledger.write_bytes(b"PAR1")
    with pytest.raises(ReleaseError, match=r"released.parquet of the private folder is damaged.*Restore it"):
        release(tmp_path, "1.1.0", SPECS[:3])
    ledger.unlink()
    (old / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(ReleaseError, match=r"version 1.0.0 in the release folder is damaged.*restore it"):
        release(tmp_path, "1.1.0", SPECS[:3])
    assert not (tmp_path / "release" / "1.1.0").exists()
    ledger.write_bytes(whole)
    shutil.rmtree(old)
    assert (release(tmp_path, "1.1.0", SPECS[:3]) / "tombstones.txt").read_text().split() == sorted(ids(SPECS[3]))


def test_diff_names_added_removed_and_changed_with_reasons(tmp_path):
    old = release(tmp_path, "1.0.0")
    later = [
        SPECS[0],
        dataclasses.replace(SPECS[1], age=45.0, timepoint="T1"),
        dataclasses.replace(SPECS[2], stopped=NO_CONSENT),
        dataclasses.replace(SPECS[3], side=52),
        Spec("patient-a", "photo-6"),
        Spec("patient-e", "photo-7"),
    ]
    new = release(tmp_path, "2.0.0", later, checks={"dlib_min": 0.61}, release={"name": "New name"})
    found = compare_releases(old, new)
    name = {spec.photo: ids(spec)[1] for spec in later}
    assert found.added == {
        name["photo-6"]: "new photograph of a patient released before",
        name["photo-7"]: "new patient",
    }
    assert list(found.removed) == [name["photo-3"]]
    assert "delete it and what was derived from it (tombstones.txt)" in found.removed[name["photo-3"]]
    assert found.changed[name["photo-2"]] == "columns changed: age, timepoint"
    assert found.changed[name["photo-4"]].startswith("image made again (width 48 → 52)")
    assert found.changed[name["photo-4"]].endswith("with other settings")
    assert found.settings == ["checks.dlib_min: 0.6 → 0.61", 'release.name: "Synthetic test cohort" → "New name"']
    assert found.unchanged == 1

    crosswalk = tables.read(tmp_path / "private" / "crosswalk.parquet", tables.CROSSWALK)
    told = compare_releases(old, new, crosswalk)
    assert told.removed[name["photo-3"]].startswith("consent_missing: Not every row of the patient says yes")
    none = compare_releases(new, new)
    assert (none.added, none.removed, none.changed, none.settings) == ({}, {}, {}, [])
    wrong_way = compare_releases(new, old)
    assert "is it the older of the two?" in wrong_way.removed[name["photo-7"]]


def test_diff_of_something_else_is_refused(tmp_path):
    old = release(tmp_path, "1.0.0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReleaseError, match="name a release's folder"):
        compare_releases(old, tmp_path / "empty")
    (old / "settings.json").unlink()
    with pytest.raises(ReleaseError, match=r"settings\.json is missing or damaged"):
        compare_releases(old, old)


def test_a_column_that_the_sheet_lacks_is_named_with_the_mend(tmp_path):
    columns = {"age": {"rule": "keep"}, "overjet": {"rule": "bin", "width": 2}}
    with pytest.raises(
        ReleaseError, match=r"release.columns.overjet: the sheet has no column of this name; correct or"
    ):
        release(tmp_path, "1.0.0", release={"columns": columns})
    assert not (tmp_path / "release").exists()
