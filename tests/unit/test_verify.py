"""``verify_release`` finds whatever was done to a release."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_tables import CONFIG, MODELS, Spec, draw_face, write_private, write_release

from deidlib.columns.protect import protect
from deidlib.contract import checks
from deidlib.release import (
    ReleaseError,
    compare_releases,
    content_digest,
    croissant,
    dataset,
    new_signing_key,
    sign_release,
    verify,
    verify_release,
)
from deidlib.release.layout import checksums
from deidlib.release.signature import signature_problems
from deidlib.release.verify import layout_warning
from deidlib.storage import images, tables
from deidlib.storage.png import png_problems, png_size


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n) for n in range(4)]
    shards = write_private(folder / "private", specs, attempts=1)
    return write_release(folder / "private", folder / "release", shards, 1, "1.0.0", CONFIG, MODELS)


def test_every_image_is_read_once(whole, monkeypatch):
    read, before = [], verify.opened
    monkeypatch.setattr(verify, "opened", lambda folder, path: read.append(path) or before(folder, path))
    assert verify_release(whole) == []
    assert sorted(read) == sorted(path for path in checksums(whole) if path.startswith("images/"))


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "1.0.0"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """A version with all that one may hold: tombstones of an earlier one, embedded images, a signature."""
    folder = tmp_path_factory.mktemp("complete")
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n) for n in range(5)]
    config = CONFIG | {"release": CONFIG["release"] | {"embed": True}}
    for version, some in (("1.0.0", specs), ("2.0.0", specs[:4])):
        shards = write_private(folder / "private", some, attempts=1)
        release = write_release(folder / "private", folder / "release", shards, 1, version, config, MODELS)
    new_signing_key(folder / "key")
    sign_release(release, folder / "key")
    assert (release / "tombstones.txt").stat().st_size
    return release


@pytest.fixture
def signed(complete, tmp_path) -> Path:
    return Path(shutil.copytree(complete, tmp_path / "2.0.0"))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sign_again(folder: Path) -> None:
    """Make SHA256SUMS fit what lies there, as somebody would who wants to hide a change."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files(folder)
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(sorted(lines, key=lambda line: line[66:])))


def change_index(folder: Path, change) -> None:
    table = change(pq.read_table(folder / "index.parquet"))
    pq.write_table(table, folder / "index.parquet", compression="zstd")
    sign_again(folder)


def set_cell(table: pa.Table, column: str, row: int, value) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_release_as_written_is_whole(copy):
    assert verify_release(copy) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bits_in_any_file_are_found(signed, data):
    path = data.draw(st.sampled_from(files(signed)))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(original)
    changed[position] ^= flip
    path.write_bytes(changed)
    try:
        assert verify_release(signed) != []
    finally:
        path.write_bytes(original)


def test_a_flip_of_any_byte_of_signature_and_key_is_found(signed):
    """They are listed nowhere: each byte of them has to count by itself."""
    for name in ("SHA256SUMS.sig", "SHA256SUMS.pub"):
        original = (signed / name).read_bytes()
        for position in range(len(original)):
            changed = bytearray(original)
            changed[position] ^= 0x20
            (signed / name).write_bytes(changed)
            assert signature_problems(signed) != [], (name, position)
        (signed / name).write_bytes(original)
    assert verify_release(signed) == []


def test_any_missing_file_is_found(signed):
    for path in files(signed):
        data = path.read_bytes()
        path.unlink()
        assert any(path.name in problem for problem in verify_release(signed)), path.name
        path.write_bytes(data)
    assert verify_release(signed) == []


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "images/zz/abc.png", "images/extra.png"])
def test_an_extra_file_is_found_also_when_it_was_signed(copy, name):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"x")
    assert f"{name}: not listed in SHA256SUMS" in verify_release(copy)
    sign_again(copy)
    assert f"{name}: belongs to no photograph of the index" in verify_release(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[::-1],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines, "\n"],
        lambda lines: [*lines[:-1], lines[-1].rstrip()],
    ],
)
def test_checksums_in_another_form_are_found(copy, change):
    sums = copy / "SHA256SUMS"
    sums.write_text("".join(change(sums.read_text().splitlines(keepends=True))))
    assert verify_release(copy) == ["SHA256SUMS: not in the form it was written in"]


def test_links_and_empty_folders_are_found(copy, tmp_path):
    (copy / "images" / "zz").mkdir()
    (copy / "link").symlink_to(tmp_path)
    assert verify_release(copy) == ["images/zz: empty folder", "link: not a plain file"]


def test_a_truncated_image_and_a_missing_folder_are_found(copy, tmp_path):
    image = next((copy / "images").rglob("*.png"))
    image.write_bytes(image.read_bytes()[:-20])
    sign_again(copy)
    assert any("damaged PNG" in problem for problem in verify_release(copy))
    assert verify_release(tmp_path / "nowhere") == ["nowhere: no such folder"]


@pytest.mark.parametrize("column", ["patient_id", "photo_id", "columns", "patient_name", "date_of_birth"])
def test_a_forbidden_column_is_found_though_signed(copy, column):
    change_index(copy, lambda table: table.append_column(column, pa.array(["x"] * table.num_rows)))
    assert f"index.parquet: column {column} may not be in a release" in verify_release(copy)


def test_index_metadata_is_found(copy):
    change_index(copy, lambda table: table.replace_schema_metadata(table.schema.metadata | {b"made": b"here"}))
    assert "index.parquet: carries metadata beside its columns' descriptions" in verify_release(copy)


def test_an_index_of_a_later_layout_is_no_damage_but_asks_for_a_later_deidlib(copy):
    """As an older deidlib meets it: another layout, and a column it does not know."""
    later = {tables.LAYOUT_KEY: str(tables.INDEX_LAYOUT + 1)}

    def grown(table):
        return table.append_column("tilt", pa.array([0.5] * table.num_rows)).replace_schema_metadata(later)

    change_index(copy, grown)
    (problem,) = verify_release(copy)
    assert "layout 3 is newer than this deidlib knows (2); install the deidlib that the data card names" in problem
    with pytest.raises(ReleaseError, match="layout 3 is newer"):
        compare_releases(copy, copy)
    change_index(copy, lambda table: table.replace_schema_metadata(None))
    assert verify_release(copy) == ["index.parquet: does not say which layout it has; deidlib writes layout 2"]


@pytest.fixture
def older(tmp_path, monkeypatch) -> Path:
    """The version of :func:`whole` as layout 1 had it, with numbers measured on the originals in every document."""
    measured = {
        "core_pixels": lambda n: 100 + n,
        "sface_cosine": lambda n: 0.1 + n / 7,
        "dlib_distance": lambda n: 0.8,
        "seam": lambda n: 1.1,
    }

    def with_measured(index, config):
        protected = protect(index, config)
        table = protected.index
        for field in tables.MEASURED_ON_ORIGINALS:
            values = pa.array([measured[field.name](n) for n in range(table.num_rows)], field.type)
            table = table.append_column(field, values)
        return dataclasses.replace(protected, index=table)

    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n) for n in range(4)]
    shards = write_private(tmp_path / "private", specs, attempts=1)
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "protect", with_measured)
        patched.setattr(tables, "INDEX_LAYOUT", 1)
        patched.setitem(croissant._TYPES, pa.float32(), croissant.mlc.DataType.FLOAT32)
        patched.setitem(croissant._TYPES, pa.int64(), croissant.mlc.DataType.INT64)
        return write_release(tmp_path / "private", tmp_path / "older", shards, 1, "0.9.0", CONFIG, MODELS)


def test_a_release_of_layout_1_is_read_and_its_numbers_are_called_what_they_are(older, whole):
    assert pq.read_schema(older / "index.parquet").metadata[tables.LAYOUT_KEY] == b"1"
    assert verify_release(older) == []
    assert "With the originals, each photograph can be found by them" in layout_warning(older)
    assert layout_warning(whole) is None
    change = compare_releases(older, whole)
    assert change.unchanged == 4
    assert "no longer publishes core_pixels, sface_cosine, dlib_distance, seam" in change.layout
    assert "is it the older of the two?" in compare_releases(whole, older).layout
    assert compare_releases(older, older).layout is None
    change_index(older, lambda table: table.drop_columns(["seam"]))
    assert "index.parquet: column seam is missing or of another type" in verify_release(older)


def test_no_number_that_was_measured_on_an_original_is_published(whole):
    """Neither as a column nor in a document: pixels, ids and words alone."""
    schema = pq.read_schema(whole / "index.parquet")
    numbers = {field.name for field in schema if not pa.types.is_string(field.type)}
    assert numbers == {"attempt", "width", "height", "text_free"}
    measured = [*tables.MEASURED_ON_ORIGINALS.names, *checks.LIKENESS]
    for name in ("README.md", "datasheet.md", "croissant.json", "ro-crate-metadata.json", "settings.json"):
        text = (whole / name).read_text()
        assert [column for column in measured if re.search(rf"\b{column}\b", text)] == []


@pytest.mark.parametrize("column", tables.MEASURED_ON_ORIGINALS.names)
def test_a_column_measured_on_an_original_may_not_come_back(copy, column):
    change_index(copy, lambda table: table.append_column(column, pa.array([1.0] * table.num_rows)))
    assert f"index.parquet: column {column} may not be in a release" in verify_release(copy)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("width", 7, "size differs from the index"),
        ("height", 7, "size differs from the index"),
        ("sha256", "0" * 64, "checksum differs from the index"),
        ("path", "images/aa/other.png", "has the path of another"),
        ("path", "../private/photo.png", "has the path of another"),
        ("release_photo_id", None, "lacks its id"),
        ("release_photo_id", "miller-2", "an id of row 1 is not of the form"),
        ("release_patient_id", "anna.miller", "an id of row 1 is not of the form"),
    ],
)
def test_index_and_images_must_agree_though_signed(copy, column, value, says):
    change_index(copy, lambda table: set_cell(table, column, 1, value))
    assert any(says in problem for problem in verify_release(copy))


def test_cells_that_are_no_text_are_found_though_signed(copy):
    broken = pa.StringArray.from_buffers(4, pa.py_buffer(struct.pack("<5i", 0, 1, 2, 3, 4)), pa.py_buffer(b"\xff" * 4))
    change_index(copy, lambda table: table.append_column("note", broken))
    assert verify_release(copy) == ["index.parquet: cannot be read (ArrowInvalid)"]


def test_a_repeated_photograph_and_wrong_card_counts_are_found(copy):
    change_index(copy, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    problems = verify_release(copy)
    assert any("occurs 2 times" in problem for problem in problems)
    assert "README.md: says 4 photographs, the index holds 5" in problems


def test_a_card_whose_text_was_changed_is_found_though_signed(copy):
    card = copy / "README.md"
    card.write_text(card.read_text().replace("**4 photographs** of", "**400 photographs** of"))
    sign_again(copy)
    assert verify_release(copy) == ["README.md: missing, or without the front matter that deidlib writes"]


@pytest.mark.parametrize(
    ("paper", "old", "new", "says"),
    [
        ("croissant.json", '"version": "1.0.0"', '"version": "1.0.1"', "another version or date"),
        ("croissant.json", "4 photographs", "5 photographs", "other counts"),
        ("croissant.json", '"name": "attempt"', '"name": "attempts"', "other columns than the index has"),
        ("croissant.json", '"sha256": "', '"sha256": "0', "another index.parquet"),
        ("croissant.json", "{", "[", "not in the form"),
        ("ro-crate-metadata.json", '"version": "1.0.0"', '"version": "1.0.1"', "another version or date"),
        ("ro-crate-metadata.json", '"identifier": "sha256:', '"identifier": "sha256:0', "another content digest"),
        (
            "ro-crate-metadata.json",
            '"@id": "index.parquet"',
            '"@id": "other.parquet"',
            "does not describe index.parquet",
        ),
        ("datasheet.md", "**4 photographs**", "**40 photographs**", "other counts or another digest than the card"),
        ("settings.json", '"device": "cpu"', '"device": "cpu", "key_file": "/a.key"', "may not be published"),
        ("settings.json", '"version": "1.0.0"', '"version": "3.0.0"', "another version or date"),
        ("README.md", "content_digest: ", "content_digest: 0", "another content digest"),
        ("README.md", "k_anonymity: 1", "k_anonymity: 5", "says 5-anonymity, the index claims 1"),
    ],
)
def test_papers_must_agree_with_the_index_though_signed(copy, paper, old, new, says):
    text = (copy / paper).read_text()
    assert old in text
    (copy / paper).write_text(text.replace(old, new))
    sign_again(copy)
    assert any(problem.startswith(f"{paper}: ") and says in problem for problem in verify_release(copy))


def test_tombstones_must_be_ids_that_are_gone_though_signed(copy):
    index = pq.read_table(copy / "index.parquet")
    here = index["release_photo_id"][0].as_py()
    (copy / "tombstones.txt").write_text(f"{here}\n")
    sign_again(copy)
    assert f"tombstones.txt: {here} is to be deleted, yet the index holds it" in verify_release(copy)
    for text in (
        "b" * 16 + "\n" + "a" * 16 + "\n",
        "a" * 16 + "\n\n",
        "a" * 16,
        "patient-one\n",
        "a" * 16 + " consent\n",
    ):
        (copy / "tombstones.txt").write_text(text)
        sign_again(copy)
        said = "tombstones.txt: holds something else than release ids, sorted, each once"
        assert said in verify_release(copy), text


def test_embedded_images_must_be_the_released_ones_though_signed(signed):
    (path,) = (signed / "data").glob("*.parquet")
    original, table = path.read_bytes(), pq.read_table(path)

    def problems(changed: pa.Table) -> list[str]:
        pq.write_table(changed, path, compression="none")
        sign_again(signed)
        return [problem for problem in verify_release(signed) if problem.startswith("data/")]

    assert problems(table) == []
    cells = table["image"].to_pylist()
    cells[1] = cells[0]
    field = table.schema.field("image")
    swapped = table.set_column(table.num_columns - 1, field, pa.array(cells, field.type))
    (problem,) = problems(swapped)
    assert "holds another image than images/" in problem
    assert problems(table.slice(1)) == ["data/patients.parquet: holds other rows than the index"]
    assert problems(table.append_column("patient_id", pa.array(["x"] * table.num_rows))) == [
        "data/patients.parquet: has another schema than the index and its images"
    ]
    path.write_bytes(b"PAR1")
    sign_again(signed)
    assert "data/patients.parquet: cannot be read" in verify_release(signed)
    path.rename(path.with_name("more.parquet"))
    path.with_name("more.parquet").write_bytes(original)
    sign_again(signed)
    assert {
        "data/more.parquet: belongs to no patients of the index",
        "data/patients.parquet: missing, though images are embedded",
    } <= set(verify_release(signed))


def test_an_index_that_has_not_the_k_it_claims_is_found_though_signed(copy):
    text = json.dumps({"k": 2, "quasi_identifiers": ["age"]}).encode()

    def claims(table):
        ages = pa.array(["10-19", "20-29", *["30-39"] * (table.num_rows - 2)])
        table = table.set_column(table.schema.get_field_index("age"), table.schema.field("age"), ages)
        return table.replace_schema_metadata(table.schema.metadata | {b"deidlib.k_anonymity": text})

    change_index(copy, claims)
    assert any("claims 2-anonymity over age, but has k = 1" in problem for problem in verify_release(copy))


def test_a_lacking_column_is_found(copy):
    change_index(copy, lambda table: table.drop_columns(["attempt"]))
    assert "index.parquet: column attempt is missing or of another type" in verify_release(copy)


@pytest.mark.parametrize(
    ("kind", "body"),
    [(b"tEXt", b"Comment\0secret"), (b"eXIf", b"II*\0"), (b"tIME", bytes(7)), (b"pHYs", bytes(9))],
)
def test_png_metadata_is_found(kind, body):
    data = images.encode_png(draw_face(0, 24))
    assert png_problems(data) == []
    end = len(data) - 12
    assert png_problems(data[:end] + chunk(kind, body) + data[end:]) == [
        "PNG carries more than pixels (chunks other than IHDR, IDAT, IEND)"
    ]


def test_hidden_png_payloads_are_found():
    data = images.encode_png(draw_face(0, 24))
    assert png_problems(data + b"secret") == ["bytes after the end of the PNG"]
    end = len(data) - 12
    smuggled = data[:end] + chunk(b"IDAT", b"secret") + data[end:]
    assert png_problems(smuggled) == ["the PNG's pixel stream does not have the size that its header announces"]
    longer = zlib.compress(bytes(24 * 73) + b"secret")
    assert png_problems(data[:33] + chunk(b"IDAT", longer) + data[end:]) == [
        "the PNG's pixel stream does not have the size that its header announces"
    ]


def test_only_plain_rgb_counts_as_a_released_image():
    assert png_problems(images.encode_png(draw_face(0, 24)[:, :, 0])) == ["PNG is not plain 8-bit RGB"]
    assert png_problems(b"") == ["not a PNG"]
    assert png_problems(images.encode_png(draw_face(0, 24))[:30]) == ["damaged PNG"]
    assert png_size(images.encode_png(draw_face(0, 24)[:10])) == (24, 10)


def test_content_digest_depends_on_paths_and_bytes(copy, whole):
    assert content_digest(copy) == content_digest(whole)
    by_hand = "grep -E '  (index.parquet|images/)' SHA256SUMS | sha256sum"
    shell = subprocess.run(by_hand, shell=True, cwd=whole, capture_output=True, text=True, check=True)
    assert shell.stdout.split()[0] == content_digest(whole)
    image = next((copy / "images").rglob("*.png"))
    image.rename(image.with_name("renamed.png"))
    assert content_digest(copy) != content_digest(whole)
