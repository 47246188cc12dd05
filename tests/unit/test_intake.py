"""Every way in which an image file arrives, and every way in which one is refused."""

import errno
import io
import os
import shutil
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageDraw, ImageFile

from deidlib import keys
from deidlib.intake import cohort, contents
from deidlib.intake import photos as intake
from deidlib.intake.decoding import Undecodable, decode_mask, decode_photo, is_grey
from deidlib.intake.paths import resolve_inside
from deidlib.storage import images, tables
from deidlib.storage.reasons import REASONS

KEY = bytes(range(32))
OPTIONS = {"max_pixels": 1_000_000, "min_side": 4}
LIMIT = OPTIONS["max_pixels"]
ORIENTATION = 0x0112

pixels = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def photo(height=40, width=56, seed=0):
    """A coloured picture that is smooth enough to survive JPEG."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def saved(image, kind, **how):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def tiff(array, **how):
    out = io.BytesIO()
    tifffile.imwrite(out, array, **how)
    return out.getvalue()


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, bits, colour, raw, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    tags[0x013B] = "Quixote"  # artist
    tags[0x9286] = "Quixote"  # user comment
    return tags


def upright(array, orientation):
    """TIFF 6.0's orientations as numpy transforms."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[orientation](array)


def refused(data, **limits):
    with pytest.raises(Undecodable) as caught:
        decode_photo(data, **({"max_pixels": LIMIT} | limits))
    return caught.value.reason


def sheet_row(**cells):
    return {
        "row": 2,
        "patient_id": "P1",
        "photo_id": "F1",
        "path": "a.png",
        "consent": "yes",
        "columns": "{}",
        "duplicate": False,
    } | cells


def run(folder, *rows, **options):
    shard = tables.from_rows([as_planned(folder, row) for row in rows], tables.COHORT)
    return intake.intake_photos(shard, folder, KEY, OPTIONS | options).to_pylist()


def as_planned(folder, row):
    """The row with what the plan reads of its files."""
    if "fingerprint" in row:
        return row
    paths = [row["path"]] + ([row["mask"]] if row.get("mask") else [])
    real = [resolve_inside(os.path.realpath(folder), path, {}) for path in paths]
    return {"fingerprint": "|".join(contents.digests(real, {})), **row}


# --- pixels ---


@given(pixels, st.sampled_from(["PNG", "TIFF", "WEBP", "lzw", "deflate"]))
def test_lossless_files_come_back_bit_exact(array, kind):
    how = {
        "WEBP": {"lossless": True, "exact": True},
        "lzw": {"compression": "tiff_lzw"},
        "deflate": {"compression": "tiff_adobe_deflate"},
    }.get(kind, {})
    kind = "TIFF" if kind in ("lzw", "deflate") else kind
    assert np.array_equal(decode_photo(saved(array, kind, **how), LIMIT), array)


def test_a_jpeg_decodes_as_pillow_decodes_it():
    data = saved(photo(), "JPEG", quality=92)
    assert np.array_equal(decode_photo(data, LIMIT), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF deflate"])
def test_every_orientation_is_turned_upright(orientation, kind):
    array = photo(6, 9)
    how = {"lossless": True} if kind == "WEBP" else {"compression": "tiff_adobe_deflate"} if "deflate" in kind else {}
    data = saved(array, kind.split()[0], exif=exif(orientation), **how)
    assert np.array_equal(decode_photo(data, LIMIT), upright(array, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg_is_turned_upright(orientation):
    stored = np.asarray(Image.open(io.BytesIO(saved(photo(), "JPEG"))))
    data = saved(photo(), "JPEG", exif=exif(orientation))
    assert np.array_equal(decode_photo(data, LIMIT), upright(stored, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_16_bit_tiff_is_turned_upright(orientation):
    array = photo(6, 9).astype(np.uint16) * 257
    data = tiff(array, photometric="rgb", extratags=[(ORIENTATION, "H", 1, orientation, True)])
    assert np.array_equal(decode_photo(data, LIMIT), upright(photo(6, 9), orientation))


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    assert np.array_equal(decode_photo(saved(photo(), "PNG", exif=exif(orientation)), LIMIT), photo())


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bit_png_is_rounded(channels, colour, orientation):
    wide = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    if channels in (2, 4):
        wide[..., -1] = 65535
    tag = b"Exif\0\0"
    raw = b"".join(b"\0" + line.astype(">u2").tobytes() for line in wide)
    extra = png_chunk(b"eXIf", exif(orientation).tobytes().removeprefix(tag))
    expected = np.rint(wide / 257).astype(np.uint8)[..., : channels if channels in (1, 3) else channels - 1]
    expected = np.repeat(expected, 3, axis=2) if expected.shape[2] == 1 else expected
    assert np.array_equal(decode_photo(png(7, 5, 16, colour, raw, extra), LIMIT), upright(expected, orientation))


@pytest.mark.parametrize(
    "how",
    [
        {"photometric": "rgb"},
        {"photometric": "rgb", "byteorder": ">"},
        {"photometric": "rgb", "compression": "deflate", "predictor": True},
        {"photometric": "minisblack"},
        {"photometric": "miniswhite"},
    ],
)
def test_16_bit_tiff_is_rounded(how):
    wide = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    wide = wide if how["photometric"] == "rgb" else wide[..., 0]
    seen = 65535 - wide.astype(int) if how["photometric"] == "miniswhite" else wide
    expected = np.rint(seen / 257).astype(np.uint8)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert np.array_equal(decode_photo(tiff(wide, **how), LIMIT), expected)


def test_8_bit_min_is_white_is_inverted():
    grey = photo()[..., 0]
    expected = np.repeat(255 - grey[..., None], 3, axis=2)
    assert np.array_equal(decode_photo(tiff(grey, photometric="miniswhite"), LIMIT), expected)


def test_planar_16_bit_tiff_is_refused_because_its_readers_disagree():
    wide = np.random.default_rng(0).integers(0, 65536, (3, 5, 7)).astype(np.uint16)
    assert refused(tiff(wide, photometric="rgb", planarconfig="separate")) == "format_unsupported"


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_colour_modes_become_rgb(mode):
    source = Image.fromarray(photo()).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert np.array_equal(decode_photo(saved(source, kind), LIMIT), np.asarray(source.convert("RGB")))


def test_a_cmyk_jpeg_keeps_its_polarity():
    source = Image.fromarray(np.full((32, 32, 3), (200, 60, 30), np.uint8)).convert("CMYK")
    assert np.abs(decode_photo(saved(source, "JPEG", quality=95), LIMIT).astype(int) - (200, 60, 30)).max() <= 6


@given(hnp.arrays(np.uint8, (5, 6, 4)))
def test_transparency_is_laid_on_white(array):
    cover = array[..., 3:] / 255
    expected = array[..., :3] * cover + 255 * (1 - cover)
    assert np.abs(decode_photo(saved(array, "PNG"), LIMIT) - expected).max() <= 0.5 + 1e-9


def test_grey_with_alpha_and_palette_with_transparency_are_laid_on_white():
    grey = Image.fromarray(np.dstack([np.full((4, 4), 10, np.uint8), np.array([[0, 255] * 2] * 4, np.uint8)]), "LA")
    assert decode_photo(saved(grey, "PNG"), LIMIT)[0, :2].tolist() == [[255] * 3, [10] * 3]
    indexed = Image.fromarray(np.array([[0, 1] * 2] * 4, np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    data = saved(indexed, "PNG", transparency=bytes([0, 255]))
    assert decode_photo(data, LIMIT)[0, :2].tolist() == [[255] * 3, [40, 50, 60]]


# --- colour profiles ---


def matrix_profile(primaries, curve_gamma=None):
    """An ICC v2 display profile by hand: three D50 XYZ columns and one gamma (None: sRGB's own curve)."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    if curve_gamma is None:
        level = np.linspace(0, 1, 1024)
        linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
        curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.rint(linear * 65535).astype(">u2").tobytes()
    else:
        curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve_gamma * 256)) + b"\0\0"
    text = b"test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(primaries[0]),
        b"gXYZ": xyz(primaries[1]),
        b"bXYZ": xyz(primaries[2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


# D50-adapted primaries (columns of the RGB to XYZ matrix) of sRGB (IEC 61966-2-1) and of Display P3 (Apple).
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def test_a_swapped_channel_profile_is_followed():
    swapped = matrix_profile((SRGB[2], SRGB[1], SRGB[0]))
    data = saved(photo(), "PNG", icc_profile=swapped)
    assert np.abs(decode_photo(data, LIMIT).astype(int) - photo()[..., ::-1]).max() <= 2


def test_display_p3_is_converted_as_the_matrices_say():
    array = np.full((8, 8, 3), (180, 130, 110), np.uint8)  # a skin tone, inside both gamuts

    def linear(value):
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    mixed = np.linalg.inv(np.array(SRGB).T) @ np.array(DISPLAY_P3).T @ linear(array[0, 0] / 255)
    encoded = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    found = decode_photo(saved(array, "PNG", icc_profile=matrix_profile(DISPLAY_P3)), LIMIT)
    assert np.abs(found - encoded * 255).max() <= 1.5
    assert not np.array_equal(found, array)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_the_profile_is_followed_in_every_format(kind):
    swapped = matrix_profile((SRGB[2], SRGB[1], SRGB[0]))
    how = {"lossless": True} if kind == "WEBP" else {}
    plain = decode_photo(saved(photo(), kind, **how), LIMIT).astype(int)
    assert np.abs(decode_photo(saved(photo(), kind, icc_profile=swapped, **how), LIMIT) - plain[..., ::-1]).max() <= 2


@given(pixels)
@settings(max_examples=20)
def test_an_embedded_srgb_profile_changes_no_pixel(array):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_photo(saved(array, "PNG", icc_profile=srgb), LIMIT), array)


def test_orientation_profile_and_alpha_together():
    array = np.dstack([photo(6, 9), np.full((6, 9), 255, np.uint8)])
    swapped = matrix_profile((SRGB[2], SRGB[1], SRGB[0]))
    found = decode_photo(saved(array, "PNG", icc_profile=swapped, exif=exif(6)), LIMIT)
    assert np.abs(found.astype(int) - np.rot90(array[..., 2::-1], -1)).max() <= 2


def test_a_grey_image_with_an_rgb_profile_is_brought_to_srgb():
    grey = np.full((8, 8), 100, np.uint8)
    data = saved(grey, "PNG", icc_profile=matrix_profile(SRGB, curve_gamma=1.0))
    linear = 100 / 255
    assert np.abs(decode_photo(data, LIMIT) - 255 * (1.055 * linear ** (1 / 2.4) - 0.055)).max() <= 1.5


@pytest.mark.parametrize("profile", [b"no profile at all" * 20, matrix_profile(SRGB)[:200]])
def test_a_broken_profile_is_refused(profile):
    assert refused(saved(photo(), "JPEG", icc_profile=profile)) == "image_damaged"


def test_a_profile_of_another_kind_of_image_is_refused():
    cmyk = Image.fromarray(photo()).convert("CMYK")
    assert refused(saved(cmyk, "TIFF", icc_profile=matrix_profile(SRGB))) == "image_damaged"


# --- refusals ---


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_damaged(kind, how, share, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries leave it behind
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = saved(noise, kind, **how)
    assert refused(data[: max(12, int(len(data) * share))]) == "image_damaged"


@pytest.mark.parametrize("data", [b"", b"a", b"This is a letter, not a picture.\n" * 40, b"\0" * 500, b"%PDF-1.7\n"])
def test_what_is_no_image_is_unsupported(data):
    assert refused(data) == "format_unsupported"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "JPEG2000", "ICO"])
def test_other_image_formats_are_unsupported(kind):
    assert refused(saved(photo(32, 32), kind)) == "format_unsupported"


def test_several_pictures_in_one_file_are_unsupported():
    frames = [Image.fromarray(photo(seed=i)) for i in range(2)]
    for kind in ("TIFF", "PNG", "WEBP"):
        assert refused(saved(frames[0], kind, save_all=True, append_images=frames[1:])) == "format_unsupported"


def test_the_preview_behind_a_jpeg_is_dropped():
    frames = [Image.fromarray(photo(seed=i)) for i in range(2)]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(decode_photo(data, LIMIT).astype(int) - photo(seed=0)).mean() < 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_pixels_that_are_not_8_or_16_bit_unsigned_are_unsupported(dtype, channels):
    array = photo().astype(dtype)
    data = tiff(array if channels == 3 else array[..., 0], photometric="rgb" if channels == 3 else "minisblack")
    assert refused(data) == "format_unsupported"


def test_cielab_is_unsupported():
    lab = ImageCms.profileToProfile(
        Image.fromarray(photo()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert refused(saved(lab, "TIFF")) == "format_unsupported"


@pytest.mark.parametrize("side", [2_000, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    # The body is a few bytes: had it been decoded, it would be called damaged.
    assert refused(png(side, side, 8, 2, b"\0")) == "image_too_large"


def test_pixels_are_counted_against_both_limits():
    data = saved(photo(40, 56), "PNG")
    assert decode_photo(data, 40 * 56, 40).shape == (40, 56, 3)
    assert refused(data, max_pixels=40 * 56 - 1) == "image_too_large"
    assert refused(data, min_side=41) == "image_too_small"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_damage_crashes_a_decoder(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]))
    content = bytearray(saved(photo(16, 16), kind, exif=exif(6)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        reason, found = None, np.empty((1, 1, 3), np.uint8)
        try:
            found = decode_photo(bytes(content), LIMIT)
        except Undecodable as refusal:
            reason = refusal.reason
    assert reason is None or reason in REASONS
    assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3)
    assert seen == []


# --- rows ---


def test_a_good_row_becomes_a_photograph_under_pseudonyms(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    cells = {
        "view": "frontal_rest",
        "timepoint": "T0",
        "age": 31.5,
        "sex": "X",
        "diagnosis": "d",
        "columns": '{"a":"b"}',
    }
    (found,) = run(tmp_path, sheet_row(**cells))
    assert (found["status"], found["reason"], found["width"], found["height"]) == ("ok", None, 56, 40)
    assert np.array_equal(images.decode_png(found["image"]), photo())
    assert found["release_photo_id"] == keys.pseudonym(KEY, "photo", "P1", "F1")
    assert found["release_patient_id"] == keys.pseudonym(KEY, "patient", "P1")
    assert found["mask"] is None
    assert {name: found[name] for name in cells} == cells


def test_nothing_but_pixels_gets_through(tmp_path):
    (tmp_path / "a.png").write_bytes(
        saved(photo(), "JPEG", exif=exif(1), comment=b"Quixote", dpi=(300, 300), quality=95)
    )
    (found,) = run(tmp_path, sheet_row())
    data, names, at = found["image"], [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        names.append(data[at + 4 : at + 8])
        at += 12 + size
    assert set(names) == {b"IHDR", b"IDAT", b"IEND"}
    assert b"Quixote" not in data


def test_the_content_counts_and_not_the_suffix(tmp_path):
    (tmp_path / "a.txt").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "b.jpg").write_text("a letter about Quixote")
    good, bad = run(tmp_path, sheet_row(path="a.txt"), sheet_row(path="b.jpg", photo_id="F2"))
    assert good["status"] == "ok"
    assert (bad["status"], bad["reason"], bad["image"]) == ("quarantined", "format_unsupported", None)


@pytest.mark.parametrize("consent", [None, "", "no", "unknown", "yes?", "0", "on"])
def test_without_consent_nothing_is_decoded(tmp_path, consent):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    (found,) = run(tmp_path, sheet_row(consent=consent))
    assert (found["status"], found["reason"], found["image"]) == ("quarantined", "consent_missing", None)


@pytest.mark.parametrize("consent", ["yes", "YES", "True", "1", "Y", " y "])
def test_consent_in_its_accepted_words(tmp_path, consent):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    assert run(tmp_path, sheet_row(consent=consent))[0]["status"] == "ok"


def test_duplicates_are_all_refused_under_pseudonyms_of_their_own(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    found = run(tmp_path, *(sheet_row(row=i, duplicate=True) for i in (2, 3)), sheet_row(row=4, photo_id="F2"))
    assert [row["reason"] for row in found] == ["duplicate_photo_id", "duplicate_photo_id", None]
    assert len({row["release_photo_id"] for row in found}) == 3


def test_no_path_leaves_the_folder(tmp_path):
    folder, outside = tmp_path / "in", tmp_path / "in-other"
    folder.mkdir()
    outside.mkdir()
    (outside / "a.png").write_bytes(saved(photo(), "PNG"))
    (folder / "a.png").write_bytes(saved(photo(), "PNG"))
    (folder / "link.png").symlink_to(outside / "a.png")
    (folder / "links").symlink_to(outside)
    (folder / "inner.png").symlink_to("a.png")
    (folder / "loop.png").symlink_to("loop.png")
    paths = {
        "a.png": None,
        "inner.png": None,
        "./a.png": None,
        "../in-other/a.png": "path_outside",
        "x/../../in-other/a.png": "path_outside",
        "x/../a.png": "path_outside",
        str(outside / "a.png"): "path_outside",
        str(folder / "a.png"): "path_outside",
        "link.png": "path_outside",
        "links/a.png": "path_outside",
        "none.png": "file_missing",
        "loop.png": "file_missing",
        ".": "file_missing",
        "a.png/x": "file_missing",
        "n" * 300: "file_missing",
    }
    rows = [sheet_row(path=path, photo_id=f"F{i}", row=i) for i, path in enumerate(paths)]
    assert [row["reason"] for row in run(folder, *rows)] == list(paths.values())


def test_a_folder_that_is_itself_a_link_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "link").symlink_to("real")
    assert run(tmp_path / "link", sheet_row())[0]["status"] == "ok"


def test_a_named_pipe_does_not_stop_the_run(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert run(tmp_path, sheet_row())[0]["reason"] == "file_missing"


def test_a_file_far_larger_than_its_pixels_allow_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 33)  # sparse: 8 GiB that take no disk
    assert run(tmp_path, sheet_row(fingerprint="0" * 64))[0]["reason"] == "image_too_large"


# --- a share that is gone ---


def planned(folder, with_mask=False):
    """The shard's table as `deidlib plan` makes it of a sheet with one photograph."""
    text = "patient_id\tphoto_id\tpath\tconsent\tmask\n"
    (folder / "samples.tsv").write_text(text + f"Quixote\tF1\ta.png\tyes\t{'m.png' if with_mask else ''}\n")
    return cohort.read_sheet(folder / "samples.tsv")


def withheld(table, folder):
    """The error's text, which tells no id and no path."""
    with pytest.raises(intake.Unreadable) as caught:
        intake.intake_photos(table, folder, KEY, OPTIONS)
    told = str(caught.value)
    assert "start the workflow again" in told
    assert not [word for word in ("Quixote", "F1", ".png", str(folder)) if word in told]
    return told


def test_what_the_plan_did_not_find_either_is_missing(tmp_path):
    (row,) = intake.intake_photos(planned(tmp_path), tmp_path, KEY, OPTIONS).to_pylist()
    assert (row["status"], row["reason"]) == ("quarantined", "file_missing")


@pytest.mark.parametrize("gone", ["a.png", "m.png"])
def test_a_file_that_is_gone_since_the_plan_ends_the_stage(tmp_path, gone):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "m.png").write_bytes(saved(drawn(), "PNG"))
    table = planned(tmp_path, with_mask=True)
    assert intake.intake_photos(table, tmp_path, KEY, OPTIONS)["status"].to_pylist() == ["ok"]
    (tmp_path / gone).unlink()
    told = withheld(table, tmp_path)
    assert told.startswith(f"line 2 of the sheet, column {'path' if gone == 'a.png' else 'mask'}: ")
    assert "(No such file or directory)" in told


def test_a_whole_folder_that_is_gone_since_the_plan_ends_the_stage(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(saved(photo(), "PNG"))
    table = planned(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    withheld(table, tmp_path / "in")


def test_a_file_that_became_a_link_out_of_the_folder_ends_the_stage_unread(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(saved(photo(), "PNG"))
    table = planned(tmp_path / "in")
    (tmp_path / "in" / "a.png").rename(tmp_path / "a.png")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "a.png")
    assert "leads out of the sheet's folder" in withheld(table, tmp_path / "in")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ENOTCONN, errno.ESTALE])
@pytest.mark.parametrize("call", ["open", "fdopen"])
def test_no_error_of_the_system_is_taken_for_a_missing_or_damaged_file(tmp_path, monkeypatch, call, code):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    table = planned(tmp_path)

    def fails(*_, **__):
        raise OSError(code, os.strerror(code), str(tmp_path / "a.png"))

    monkeypatch.setattr(intake.os, call, fails)
    assert f"({os.strerror(code)})" in withheld(table, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_ends_the_stage(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "a.png").chmod(0)
    assert "(Permission denied)" in withheld(planned(tmp_path), tmp_path)


def test_a_file_that_became_a_folder_is_missing(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    table = planned(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").mkdir()
    assert intake.intake_photos(table, tmp_path, KEY, OPTIONS)["reason"].to_pylist() == ["file_missing"]


# --- memory ---


def no_memory(*_, **__):
    raise MemoryError


@pytest.mark.parametrize(("module", "name"), [(Image, "open"), (np, "array"), (ImageCms, "ImageCmsProfile")])
def test_want_of_memory_is_no_verdict_on_a_photograph(tmp_path, monkeypatch, module, name):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", icc_profile=matrix_profile(DISPLAY_P3)))
    monkeypatch.setattr(module, name, no_memory)
    with pytest.raises(MemoryError):
        run(tmp_path, sheet_row())


def test_want_of_memory_is_no_verdict_on_a_mask(tmp_path, monkeypatch):
    for name in ("a.png", "m.png"):
        (tmp_path / name).write_bytes(saved(drawn(), "PNG"))
    monkeypatch.setattr(intake, "decode_mask", no_memory)
    with pytest.raises(MemoryError):
        run(tmp_path, sheet_row(mask="m.png"))


def test_opencv_has_a_word_of_its_own_for_want_of_memory(monkeypatch):
    def fails(*_):
        error = cv2.error("Failed to allocate")
        error.code = code
        raise error

    monkeypatch.setattr(cv2, "imdecode", fails)
    data = png(2, 1, 16, 2, bytes(13))
    code = cv2.Error.STS_NO_MEM
    with pytest.raises(MemoryError):
        decode_photo(data, LIMIT)
    code = cv2.Error.STS_ASSERT
    assert refused(data) == "image_damaged"


def test_pillows_own_limit_of_pixels_is_a_verdict():
    assert refused(png(20_000, 20_000, 8, 2, b"\0"), max_pixels=10**10) == "image_too_large"


@pytest.mark.parametrize("tag", [322, 323])  # width and length of a tile
def test_a_tiff_with_absurd_tiles_is_damaged_although_pillow_calls_it_memory(tag):
    content = bytearray(tiff(photo(64, 64), photometric="rgb", tile=(32, 32), compression="deflate"))
    (start,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[start : start + 2])
    places = [start + 2 + 12 * i for i in range(entries)]
    (place,) = (at for at in places if struct.unpack("<H", content[at : at + 2]) == (tag,))
    content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 0x7FFFFFF0)
    with pytest.raises(OSError, match="-9"):
        Image.open(io.BytesIO(content)).load()
    assert refused(bytes(content)) == "image_damaged"


def test_a_mistake_in_the_installation_is_no_verdict(monkeypatch):
    def fails(*_, **__):
        raise ImportError("The _imagingcms C module is not installed")

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", fails)
    with pytest.raises(ImportError):
        decode_photo(saved(photo(), "PNG", icc_profile=matrix_profile(DISPLAY_P3)), LIMIT)


# --- a whole shard ---


def test_rows_keep_their_order_and_progress_is_called_for_each(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    rows = [
        as_planned(tmp_path, sheet_row(photo_id=f"F{i}", row=i, **({} if i % 2 else {"path": "none"})))
        for i in range(2, 8)
    ]
    calls = []
    shard = tables.from_rows(rows, tables.COHORT)
    found = intake.intake_photos(shard, tmp_path, KEY, OPTIONS, lambda: calls.append(1))
    assert found["row"].to_pylist() == [2, 3, 4, 5, 6, 7]
    assert found.schema.equals(tables.PHOTOS)
    assert len(calls) == 6


def test_an_empty_shard_gives_an_empty_table(tmp_path):
    assert intake.intake_photos(tables.from_rows([], tables.COHORT), tmp_path, KEY, OPTIONS).num_rows == 0


@given(pixels, pixels)
def test_the_digest_tells_pixels_and_shape_apart(a, b):
    assert (images.pixels_sha256(a) == images.pixels_sha256(b)) == (a.shape == b.shape and np.array_equal(a, b))


def test_the_digest_of_the_same_bytes_in_another_shape_differs():
    line = np.zeros((2, 3, 3), np.uint8)
    assert images.pixels_sha256(line) != images.pixels_sha256(line.reshape(3, 2, 3))


# --- masks and grey ---


def drawn(mode="L", size=(56, 40), fill=255):
    mask = Image.new(mode, size)
    ImageDraw.Draw(mask).rectangle((10, 10, 30, 20), fill=fill)
    return mask


@pytest.mark.parametrize(("mode", "fill"), [("L", 255), ("1", 1), ("RGB", (255,) * 3), ("RGBA", (255,) * 4)])
def test_a_mask_is_white_inside(tmp_path, mode, fill):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "m.png").write_bytes(saved(drawn(mode, fill=fill), "PNG"))
    (found,) = run(tmp_path, sheet_row(mask="m.png"))
    assert found["status"] == "ok"
    expected = np.zeros((40, 56), np.uint8)
    expected[10:21, 10:31] = 255
    assert np.array_equal(images.decode_png(found["mask"]), expected)


def test_a_mask_that_a_reviewer_drew_counts_in_place_of_the_sheets(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "m.png").write_bytes(saved(drawn("L", fill=255), "PNG"))
    table = tables.from_rows([as_planned(tmp_path, sheet_row(mask="m.png"))], tables.COHORT)
    by_hand = tmp_path / "drawn"
    (before,) = intake.intake_photos(table, tmp_path, KEY, OPTIONS, None, by_hand).to_pylist()  # there is no folder
    by_hand.mkdir()
    mask = np.zeros((40, 56), np.uint8)
    mask[30:36, 5:9] = 255
    file = by_hand / f"{before['release_photo_id']}.png"
    file.write_bytes(images.encode_png(mask))
    (after,) = intake.intake_photos(table, tmp_path, KEY, OPTIONS, None, by_hand).to_pylist()
    assert np.array_equal(images.decode_png(after["mask"]), mask)
    assert not np.array_equal(images.decode_png(before["mask"]), mask)
    file.write_bytes(images.encode_png(mask[1:]))  # the photograph was replaced by one of another size since
    (refused,) = intake.intake_photos(table, tmp_path, KEY, OPTIONS, None, by_hand).to_pylist()
    assert refused["reason"] == "mask_unusable"


def test_what_is_transparent_in_a_mask_is_outside():
    mask = Image.fromarray(np.full((4, 4, 4), (255, 255, 255, 0), np.uint8))
    assert not decode_mask(saved(mask, "PNG"), LIMIT).any()


def test_the_mask_belongs_to_the_upright_photograph(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", exif=exif(6)))
    (tmp_path / "turned.png").write_bytes(saved(drawn(size=(40, 56)), "PNG"))
    (tmp_path / "stored.png").write_bytes(saved(drawn(size=(56, 40)), "PNG"))
    good, bad = run(tmp_path, sheet_row(mask="turned.png"), sheet_row(mask="stored.png", photo_id="F2"))
    assert (good["status"], good["width"], good["height"]) == ("ok", 40, 56)
    assert bad["reason"] == "mask_unusable"


@pytest.mark.parametrize(
    "mask",
    ["none.png", "../m.png", "empty.png", "full.png", "faint.png", "text.png", "small.png"],
)
def test_an_unusable_mask_quarantines_the_photograph(tmp_path, mask):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(photo(), "PNG"))
    (tmp_path / "m.png").write_bytes(saved(drawn(), "PNG"))
    (folder / "empty.png").write_bytes(saved(Image.new("L", (56, 40)), "PNG"))
    (folder / "full.png").write_bytes(saved(Image.new("L", (56, 40), 255), "PNG"))
    (folder / "faint.png").write_bytes(saved(drawn(fill=127), "PNG"))
    (folder / "text.png").write_text("no mask")
    (folder / "small.png").write_bytes(saved(drawn(size=(55, 40)), "PNG"))
    (found,) = run(folder, sheet_row(mask=mask))
    assert (found["status"], found["reason"], found["image"], found["mask"]) == (
        "quarantined",
        "mask_unusable",
        None,
        None,
    )


def test_grey_is_told_from_colour():
    levels = cv2.resize(np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8), (64, 64))
    grey = np.repeat(levels[..., None], 3, axis=2)
    assert is_grey(grey)
    for quality in (50, 75, 95):
        assert is_grey(decode_photo(saved(grey, "JPEG", quality=quality), LIMIT))
    assert not is_grey(photo(64, 64))
    skin = (grey * np.array([1.0, 0.8, 0.7])).astype(np.uint8)
    assert not is_grey(skin)
    face_on_grey = grey.copy()
    face_on_grey[20:30, 20:30] = (200, 150, 130)
    assert not is_grey(face_on_grey)


def test_a_grey_file_is_marked_grey(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo()[..., 0], "PNG"))
    (tmp_path / "b.png").write_bytes(saved(photo(), "PNG"))
    grey, colour = run(tmp_path, sheet_row(), sheet_row(path="b.png", photo_id="F2"))
    assert (grey["grey"], colour["grey"]) == (True, False)
