"""``verify_release`` finds whatever was done to a release."""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_tables import CONFIG, MODELS, Spec, draw_face, write_private

from deidlib import images
from deidlib.png import png_problems, png_size
from deidlib.release import content_digest, verify_release, write_release


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n) for n in range(4)]
    shards = write_private(folder / "private", specs, attempts=1)
    return write_release(folder / "private", folder / "release", shards, 1, "1.0.0", CONFIG, MODELS)


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "1.0.0"))


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
def test_any_flipped_bits_in_any_file_are_found(copy, data):
    path = data.draw(st.sampled_from(files(copy)))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(original)
    changed[position] ^= flip
    path.write_bytes(changed)
    try:
        assert verify_release(copy) != []
    finally:
        path.write_bytes(original)
    assert verify_release(copy) == []


def test_any_missing_file_is_found(copy):
    for path in files(copy):
        data = path.read_bytes()
        path.unlink()
        assert any(path.name in problem for problem in verify_release(copy)), path.name
        path.write_bytes(data)


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
    change_index(copy, lambda table: table.replace_schema_metadata({"made": "here"}))
    assert "index.parquet: carries metadata beside its columns' descriptions" in verify_release(copy)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("width", 7, "size differs from the index"),
        ("height", 7, "size differs from the index"),
        ("sha256", "0" * 64, "checksum differs from the index"),
        ("path", "images/aa/other.png", "has the path of another"),
        ("path", "../private/photo.png", "has the path of another"),
        ("release_photo_id", None, "lacks its id"),
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


def test_a_lacking_column_is_found(copy):
    change_index(copy, lambda table: table.drop_columns(["sface_cosine"]))
    assert "index.parquet: column sface_cosine is missing or of another type" in verify_release(copy)


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
    assert png_problems(smuggled) == ["PNG's pixel stream has not the size its header announces"]
    longer = zlib.compress(bytes(24 * 73) + b"secret")
    assert png_problems(data[:33] + chunk(b"IDAT", longer) + data[end:]) == [
        "PNG's pixel stream has not the size its header announces"
    ]


def test_only_plain_rgb_counts_as_a_released_image():
    assert png_problems(images.encode_png(draw_face(0, 24)[:, :, 0])) == ["PNG is not plain 8-bit RGB"]
    assert png_problems(b"") == ["not a PNG"]
    assert png_problems(images.encode_png(draw_face(0, 24))[:30]) == ["damaged PNG"]
    assert png_size(images.encode_png(draw_face(0, 24)[:10])) == (24, 10)


def test_content_digest_depends_on_paths_and_bytes(copy, whole):
    assert content_digest(copy) == content_digest(whole)
    assert content_digest(whole) == hashlib.sha256((whole / "SHA256SUMS").read_bytes()).hexdigest()
    image = next((copy / "images").rglob("*.png"))
    image.rename(image.with_name("renamed.png"))
    assert content_digest(copy) != content_digest(whole)
