"""A release made to harm whoever checks it: nothing blocks, fills the memory, leads out of it or writes escapes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release
from test_verify import change_index, chunk, set_cell, sign_again

from deidlib.logs import printable
from deidlib.release import ReleaseError, compare_releases, new_signing_key, sign_release, verify_release
from deidlib.release.diff import compare_images
from deidlib.release.listing import Entry, judged
from deidlib.release.reading import read_index
from deidlib.storage import images

#: Address space of a process that checks hostile releases: what the libraries take (some 1.5 GB), and little more.
ADDRESS_SPACE = 3 << 30
CHILD = """
import io, json, resource, sys
from contextlib import redirect_stderr, redirect_stdout
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from deidlib.cli import app
for line in sys.stdin:
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        try:
            app(json.loads(line))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, shown.getvalue()]), flush=True)
"""


def guarded(commands: list[list]) -> list[tuple[int, str]]:
    """Run ``deidlib`` commands in a process with little memory and little time; exit codes and what was printed."""
    lines = "".join(json.dumps([str(part) for part in command]) + "\n" for command in commands)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = [sys.executable, "-c", CHILD, str(ADDRESS_SPACE)]
    done = subprocess.run(child, input=lines, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=24 + n) for n in range(4)]
    config = CONFIG | {"release": CONFIG["release"] | {"embed": True}}
    shards = write_private(folder / "private", specs, attempts=1)
    release = write_release(folder / "private", folder / "release", shards, 1, "1.0.0", config, MODELS)
    new_signing_key(folder / "key")
    sign_release(release, folder / "key")
    return release


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "1.0.0"))


def one_of_each_kind(folder: Path) -> list[Path]:
    image = min((folder / "images").rglob("*.png"))
    return [*(path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".png"), image]


def test_a_pipe_a_device_or_a_link_in_any_files_place_is_told_and_never_opened(copy, tmp_path):
    outside = tmp_path / "outside"
    for path in one_of_each_kind(copy):
        name, aside = path.relative_to(copy).as_posix(), tmp_path / "aside"
        path.rename(aside)
        shutil.copyfile(aside, outside)
        for make in (
            os.mkfifo,
            lambda place: place.symlink_to("/dev/zero"),
            lambda place: place.symlink_to(outside),  # the very bytes, but not in the folder
        ):
            make(path)
            assert f"{name}: not a plain file" in verify_release(copy)
            if name in ("index.parquet", "settings.json", "tombstones.txt"):
                with pytest.raises(ReleaseError):
                    compare_releases(copy, copy)
            path.unlink()
        aside.rename(path)
    assert verify_release(copy) == []


def test_a_folder_of_images_that_is_a_link_is_not_entered(copy, tmp_path):
    (copy / "images").rename(tmp_path / "images")
    (copy / "images").symlink_to(tmp_path / "images")
    problems = verify_release(copy)
    assert "images: not a plain file" in problems
    assert sum("named by the index but missing" in problem for problem in problems) == 4
    change = pq.read_table(copy / "index.parquet")
    other = Path(shutil.copytree(copy, tmp_path / "other", symlinks=True))
    pq.write_table(set_cell(change, "sha256", 0, "0" * 64), other / "index.parquet")
    with pytest.raises(ReleaseError, match="is not what the index says"):
        compare_images(copy, other)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "images/../../secret.png", "README.md", None, "a\0b"])
def test_an_index_cannot_have_other_files_opened(copy, tmp_path, path):
    (tmp_path / "secret.png").write_bytes(images.encode_png(np.zeros((24, 24, 3), np.uint8)))
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    change_index(other, lambda table: set_cell(set_cell(table, "path", 1, path), "sha256", 1, "0" * 64))
    assert any("path" in problem for problem in verify_release(other))
    with pytest.raises(ReleaseError, match="is not what the index says"):
        compare_images(copy, other)


def test_sizes_are_judged_before_anything_is_opened(copy):
    for path in one_of_each_kind(copy):
        original = path.read_bytes()
        os.truncate(path, 1 << 41)  # sparse: two terabytes for nothing
        name = path.relative_to(copy).as_posix()
        assert any(problem.startswith(f"{name}: ") and "not opened" in problem for problem in verify_release(copy))
        path.write_bytes(original)
    assert verify_release(copy) == []


def test_the_judgement_of_a_folder_is_a_function_of_its_entries():
    entries = [
        Entry("README.md", 0o100644, 10),
        Entry("images", 0o040755, 0),
        Entry("images/ab", 0o040755, 0),
        Entry("images/ab/abcdefghijklmnop.png", 0o100644, 10),
        Entry("images/ab/x\x1b[31m.png", 0o100644, 10),
        Entry("images/ac", 0o040755, 0),
        Entry("pipe", 0o010644, 0),
        Entry("SHA256SUMS.sig", 0o100644, 1 << 20),
        Entry("/".join("a" * 21), 0o040755, 0),
    ]
    found = judged(entries)
    assert found.files == {"README.md": 10, "images/ab/abcdefghijklmnop.png": 10}
    assert found.refused == {"images/ab/x\x1b[31m.png", "SHA256SUMS.sig"}
    assert [problem.split(": ")[0] for problem in found.problems] == [
        "SHA256SUMS.sig",
        "/".join("a" * 21),
        "images/ac",
        "pipe",
    ]


def zlib_of_zeros(length: int) -> bytes:
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    parts = [packer.compress(piece) for _ in range(length >> 20)]
    return b"".join([*parts, packer.compress(bytes(length & 0xFFFFF)), packer.flush()])


def png(width: int, height: int, length: int) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib_of_zeros(length)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def put_image(folder: Path, data: bytes, width: int, height: int) -> None:
    index = pq.read_table(folder / "index.parquet")
    (folder / index["path"][0].as_py()).write_bytes(data)
    change_index(folder, lambda table: set_cell(set_cell(table, "width", 0, width), "height", 0, height))


def bomb_png(folder: Path) -> None:
    """Half a gigabyte of pixels in half a megabyte, of the size that the index states."""
    put_image(folder, png(16_000, 11_000, 11_000 * 48_001), 16_000, 11_000)


def bomb_png_of_impossible_size(folder: Path) -> None:
    put_image(folder, png(2**31 - 1, 2**31 - 1, 16 << 20), 2**31 - 1, 2**31 - 1)


def bomb_png_longer_than_it_says(folder: Path) -> None:
    put_image(folder, png(24, 24, 256 << 20), 24, 24)


def bomb_rows(folder: Path) -> None:
    """A hundred million rows of one text."""
    indices = pa.array(np.zeros(20_000_000, np.int8))
    column = pa.DictionaryArray.from_arrays(indices, ["x" * 20_000])
    table = pa.table({"note": pa.chunked_array([column] * 5)})
    pq.write_table(table, folder / "index.parquet", store_schema=False, row_group_size=1 << 30)


def bomb_repeated_text(folder: Path) -> None:
    """Rows enough for the file's size, each naming one long text."""
    table = pq.read_table(folder / "index.parquet")
    n = 200_000
    many = pa.concat_tables([table] * (n // 4))
    rng = np.random.default_rng(0)
    unique = pa.array([rng.bytes(16).hex() * 2 for _ in range(n)])
    many = many.set_column(many.schema.get_field_index("sha256"), table.schema.field("sha256"), unique)
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), ["x" * 30_000])
    pq.write_table(many.append_column("note", text), folder / "index.parquet", store_schema=False)


def bomb_page(folder: Path, compression: str) -> None:
    """A cell that packs a thousandfold."""
    table = pq.read_table(folder / "index.parquet")
    cells = pa.array(["x" * (1 << 28), *[None] * (table.num_rows - 1)])
    pq.write_table(table.append_column("note", cells), folder / "index.parquet", compression=compression)


def bomb_embedded(folder: Path) -> None:
    (path,) = (folder / "data").iterdir()
    table = pq.read_table(path)
    cells = table["image"].to_pylist()
    cells[0]["bytes"] = bytes(1 << 28)
    field = table.schema.field("image")
    at = table.schema.get_field_index("image")
    pq.write_table(table.set_column(at, field, pa.array(cells, field.type)), path, compression="gzip")


def bomb_json(name: str):
    def bomb(folder: Path) -> None:
        (folder / name).write_text('{"a":' * 600_000 + "1" + "}" * 600_000)

    return bomb


def bomb_wide_json(folder: Path) -> None:
    (folder / "croissant.json").write_text("[" + "[]," * ((4 << 20) // 3 - 2) + "1]")


def bomb_settings_keys(folder: Path) -> None:
    """Three hundred thousand values below one key of a megabyte."""
    inner = {f"{n:x}": 1 for n in range(200_000)}
    (folder / "settings.json").write_text(json.dumps({"x" * 1_000_000: inner}))


def bomb_yaml(folder: Path) -> None:
    """Aliases of aliases: ten to the twentieth texts."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 21))]
    front = "\n".join(["deidlib:", *(f"  {line}" for line in lines), "  photographs: *a20", "  patients: *a20"])
    (folder / "README.md").write_text(f"---\n{front}\n---\n")


def bomb_deep_yaml(folder: Path) -> None:
    (folder / "README.md").write_text(f"---\ndeidlib: {'[' * 30_000}\n---\n")


def bomb_claim(folder: Path) -> None:
    deep = b"[" * 200_000
    change_index(
        folder,
        lambda table: table.replace_schema_metadata(table.schema.metadata | {b"deidlib.k_anonymity": deep}),
    )


def bomb_sums(folder: Path) -> None:
    with open(folder / "SHA256SUMS", "wb") as file:
        file.truncate(500 << 20)


BOMBS = {
    "png": (bomb_png, "README.md: states another content digest"),
    "impossible png": (bomb_png_of_impossible_size, "more pixels than a released image can have"),
    "longer png": (bomb_png_longer_than_it_says, "does not have the size that its header announces"),
    "rows": (bomb_rows, "rows, more than so small a file can hold"),
    "repeated text": (bomb_repeated_text, "repeat more text than so small a file can stand for"),
    "zstd page": (lambda folder: bomb_page(folder, "zstd"), "more than so small a file can hold"),
    "gzip page": (lambda folder: bomb_page(folder, "gzip"), "more than so small a file can hold"),
    "embedded": (bomb_embedded, "data/patients.parquet: cannot be read"),
    "deep settings": (bomb_json("settings.json"), "settings.json: missing, or not in the form"),
    "deep crate": (bomb_json("ro-crate-metadata.json"), "ro-crate-metadata.json: missing, or not in the form"),
    "wide json": (bomb_wide_json, "croissant.json: missing, or not in the form"),
    "settings keys": (bomb_settings_keys, "settings.json: missing, or not in the form"),
    "yaml aliases": (bomb_yaml, "without the front matter that deidlib writes"),
    "deep yaml": (bomb_deep_yaml, "without the front matter that deidlib writes"),
    "claim": (bomb_claim, "does not say which k-anonymity it keeps"),
    "checksums": (bomb_sums, "a line is not a checksum and a path"),
}


@pytest.fixture(scope="module")
def bombed(whole, tmp_path_factory) -> dict[str, list[tuple[int, str]]]:
    """What verify, diff and sign say of a release with each bomb."""
    place = tmp_path_factory.mktemp("bombs")
    new_signing_key(place / "key")
    commands = []
    for name, (plant, _) in BOMBS.items():
        folder = Path(shutil.copytree(whole, place / name.replace(" ", "-")))
        for added in ("SHA256SUMS.sig", "SHA256SUMS.pub"):
            (folder / added).unlink()
        plant(folder)
        if name != "checksums":
            sign_again(folder)
        commands += [["verify", folder], ["diff", whole, folder, "--images"], ["sign", folder, "--key", place / "key"]]
    results = guarded(commands)
    return {name: results[3 * at : 3 * at + 3] for at, name in enumerate(BOMBS)}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_bomb_takes_little_memory_and_is_told(bombed, name):
    says = BOMBS[name][1]
    (code, verified), (compared, differs), (signed, refused) = bombed[name]
    shown = verified + differs + refused
    assert "unexpected" not in shown
    assert "Memory" not in shown
    assert code == 1
    assert says in verified
    assert compared in (0, 1)
    assert signed == 1
    assert "is not whole" in refused


def test_what_a_release_says_is_printed_without_control_characters(copy, whole):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\nFAKE: whole"
    (copy / "images" / f"{evil}.png").write_bytes(b"x")
    os.symlink("/dev/zero", os.fsencode(copy) + b"/\xff\x1b[31m")
    change_index(copy, lambda table: table.append_column(evil, pa.array(["x"] * table.num_rows)))
    settings = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps(settings | {"device": evil}, ensure_ascii=False))
    for _, shown in guarded([["verify", copy], ["diff", whole, copy]]):
        assert "owned" in shown
        assert printable(shown.replace("\n", ""), len(shown) + 1) == shown.replace("\n", "")
        assert not any(line.startswith("FAKE") for line in shown.splitlines())


def test_an_index_of_a_million_photographs_is_within_the_bounds(tmp_path):
    """The bounds must not refuse what deidlib writes: rows of a full size, texts that repeat."""
    from deidlib.release.documents import write_index
    from deidlib.storage import tables

    n = 100_000
    rng = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
    names = ["".join(row) for row in letters[rng.integers(0, 32, (n, 16))]]
    cells = {field.name: [None] * n for field in tables.INDEX}
    cells |= {
        "release_photo_id": names,
        "release_patient_id": names,
        "path": [f"images/{name[:2]}/{name}.png" for name in names],
        "view": ["frontal_smile"] * n,
        "sha256": [rng.bytes(32).hex() for _ in range(n)],
    }
    table = pa.Table.from_pydict(cells, schema=tables.INDEX).append_column(
        "note", pa.array(["a text of the sheet that every row repeats. " * 5] * n)
    )
    write_index(table, tmp_path / "index.parquet")
    assert read_index(tmp_path).equals(pq.read_table(tmp_path / "index.parquet"))
