"""A disk that fills, a process that is killed: afterwards a version is there whole, or not at all, and runs again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from shard_tables import CONFIG, MODELS, Spec, outcomes_of, verdict_on, write_private, write_release

from deidlib.release import ReleaseError, decide, verify_release
from deidlib.release.documents import write_index
from deidlib.release.embedded import write_embedded
from deidlib.release.files import report_full_disk
from deidlib.storage import tables

SPECS = [Spec(f"patient-{n}", f"photo-{n}", side=200 if n == 2 else 40) for n in range(4)]
#: A user's runs, each a process of its own: the fault is set up, then the release is written.
RUN = """
import itertools, os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from shard_tables import CONFIG, MODELS
from deidlib.release import ReleaseError, write_release
import deidlib.release.crate, deidlib.release.croissant

def limit(number):  # no file may grow beyond this: writing fails in the middle, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

def kill(number):  # at the n-th call that makes a file or a name last
    def deadly(real):
        def call(*arguments, **options):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    os.fsync, os.rename, os.replace = deadly(os.fsync), deadly(os.rename), deadly(os.replace)

calls = itertools.count(1)
for folder, fault, number in (text.split(":") for text in sys.argv[2:]):
    child = os.fork()
    if child == 0:
        (limit if fault == "limit" else kill)(int(number))
        code, folder = 0, Path(folder)
        try:
            write_release(folder / "private", folder / "release", ["s0000"], "1.0.0", CONFIG, MODELS, threads=2)
        except ReleaseError as error:
            print(error)
            code = 1
        print("calls", next(calls) - 1, flush=True)
        os._exit(code)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(*faults: str) -> list[str]:
    """Run with each fault (``folder:limit:bytes`` or ``folder:kill:call``) and return the lines that were printed."""
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), *faults]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_private(folder / "private", SPECS, 1)
    done = write_release(folder / "private", folder / "release", ["s0000"], 1, "1.0.0", CONFIG, MODELS)
    return contents(done)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Results that were decided on, to be released."""
    write_private(tmp_path / "private", SPECS, 1)
    decide(tmp_path / "private", ["s0000"], verdict_on(outcomes_of(tmp_path / "private", ["s0000"], 1)))
    return tmp_path


def finish(folder: Path) -> dict[str, bytes]:
    """Run again without a fault."""
    done = write_release(folder / "private", folder / "release", ["s0000"], 1, "1.0.0", CONFIG, MODELS)
    assert verify_release(done) == []
    assert [path.name for path in (folder / "release").iterdir()] == ["1.0.0"]
    return contents(done)


@pytest.mark.parametrize("limit", [3_000, 12_000])
def test_a_full_disk_leaves_nothing_and_says_what_to_do(folder, undisturbed, limit):
    """At 3 kB the first image does not fit; at 12 kB the small ones do, and a later file does not."""
    before = contents(folder / "private")
    said, _, ended = run(f"{folder}:limit:{limit}")
    assert ended == "ended 1"
    assert "no room on the disk of the results (file too large)" in said
    assert "version 1.0.0 was not written, and nothing half-written is left of it. Make room" in said
    assert list((folder / "release").iterdir()) == []
    assert contents(folder / "private") == before
    assert finish(folder) == undisturbed


def test_a_disk_that_is_really_full(folder, tmp_path_factory, undisturbed):
    """The same on a file system of 80 kB, where the system lets one be mounted."""
    small = tmp_path_factory.mktemp("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting a file system takes rights that this process has not")
    try:
        with pytest.raises(ReleaseError, match="no space left on device"):
            write_release(folder / "private", small / "release", ["s0000"], 1, "1.0.0", CONFIG, MODELS)
        assert list((small / "release").iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert finish(folder) == undisturbed


def test_no_parquet_writer_takes_a_full_disk_for_something_else(tmp_path):
    """Arrow hands the system's error on, by which the release stage knows it (Linux's /dev/full is always full)."""
    (tmp_path / "a.png").write_bytes(bytes(100_000))
    blank = {field.name: [None] for field in tables.INDEX}
    cells = blank | {"path": ["a.png"], "release_patient_id": ["a" * 16]}
    index = pa.Table.from_pydict(cells, schema=tables.INDEX)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "patients.parquet").symlink_to("/dev/full")
    (tmp_path / "index.parquet").symlink_to("/dev/full")
    with pytest.raises(ReleaseError, match="no space left"), report_full_disk("nothing was written"):
        write_index(index, tmp_path / "index.parquet")
    with pytest.raises(ReleaseError, match="no space left"), report_full_disk("nothing was written"):
        write_embedded(tmp_path, index)


@pytest.mark.exhaustive
def test_a_kill_at_any_moment_leaves_a_whole_version_or_none(folder, undisturbed):
    total = int(run(f"{folder}:kill:0")[0].split()[1])
    assert total > 20
    shutil.rmtree(folder / "release")
    moments = [1, 3, total // 2, *range(total - 9, total + 1)]
    places = [Path(shutil.copytree(folder, folder.with_name(f"killed-{moment}"))) for moment in moments]
    ended = run(*(f"{place}:kill:{moment}" for place, moment in zip(places, moments, strict=True)))
    assert ended == [f"ended -{signal.SIGKILL.value}"] * len(moments)
    whole = 0
    for place in places:
        version = place / "release" / "1.0.0"
        whole += version.exists()
        assert not version.exists() or contents(version) == undisturbed
        assert finish(place) == undisturbed
    assert 0 < whole < len(moments), "the moments lie on both sides of the rename"


def test_what_a_killed_run_left_of_another_version_goes(folder):
    left = folder / "release" / ".0.9.0.partial" / "images"
    left.mkdir(parents=True)
    (left / "half.png").write_bytes(b"half")
    (folder / "release" / ".0.9.0.SHA256SUMS.sig.partial").write_bytes(b"half")
    finish(folder)


def test_killed_while_signing_can_be_signed_again(folder):
    from deidlib.release import new_signing_key, sign_release

    finish(folder)
    release = folder / "release" / "1.0.0"
    new_signing_key(folder / "key")
    sign_release(release, folder / "key")
    whole = contents(release)
    os.remove(release / "SHA256SUMS.pub")  # as after a kill between the two files
    assert verify_release(release) == ["SHA256SUMS.pub: missing, though SHA256SUMS was signed; sign the release again"]
    sign_release(release, folder / "key")
    assert contents(release) == whole
