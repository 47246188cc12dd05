"""Formats beside each other: what is accepted with which pixels; damage and foreign formats with the right reason."""

import io
import struct

import numpy as np
import pillow_heif
import pytest
import tifffile
from picture_files import DAMAGES, cut_and_ended, dicom, every_format, jpeg_2000, portrait, saved
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

from deidlib.intake import colour
from deidlib.intake.decoding import Undecodable, decode_photo
from deidlib.intake.missing import is_blank, is_missing_a_part

LIMIT = 10_000_000
PHOTO = portrait()
FORMATS = every_format()
GREY = np.repeat(PHOTO[..., 1:2], 3, axis=2)
LUMINANCE = np.asarray(Image.fromarray(PHOTO).convert("L").convert("RGB"))


def reason(data):
    try:
        decode_photo(data, LIMIT)
    except Undecodable as refusal:
        return refusal.reason
    return "ok"


def difference(data, expected):
    found = decode_photo(data, LIMIT)
    assert found.shape == expected.shape
    return np.abs(found.astype(int) - expected).mean()


# --- damage ---


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(name):
    assert difference(FORMATS[name], LUMINANCE if "grey" in name else PHOTO) < 4


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_seen_in_every_format(name, damage):
    data = FORMATS[name]
    assert reason(DAMAGES[damage](data, len(data) // 2 + 1)) == "image_damaged"


@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("JPEG")])
def test_a_jpeg_is_whole_to_its_last_bytes(name):
    data = FORMATS[name]
    assert reason(data[:-4] + b"\xff\xd9") == "image_damaged"
    assert reason(data[:-2] + b"\x12\x34\x56\xff\xd9") == "image_damaged"
    assert reason(data[:-2] + b"\0\0\xff\xff\xff\xd9" + b"preview") == "ok"  # padding, and what follows the end


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(
    "how", [{"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 30}]
)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_flat_background_is_no_damage(kind, level, how):
    framed = np.full((1200, 1600, 3), level, np.uint8)
    framed[300:684, 500:884] = PHOTO
    framed[-20:] = np.resize(PHOTO, (20, 1600, 3))
    assert reason(saved(framed, kind, **(how if kind == "JPEG" else {}))) == "ok"


def test_strange_segments_of_a_jpeg_are_no_damage():
    data = saved(PHOTO, "JPEG", comment=b"\xff\xd8\xff\xd9" * 9)
    adobe = b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\x01"
    assert reason(data[:2] + b"\xff\xe5\0\x04ab" + data[2:]) == "ok"
    assert reason(data[:2] + adobe + data[2:]) == "ok"


def test_what_was_lost_before_the_file_was_saved_again_is_seen():
    lost = PHOTO.copy()
    lost[200:] = 128
    lost[184:200, 160:] = 128
    for kind in ("PNG", "JPEG", "WEBP"):
        assert reason(saved(lost, kind, **({"lossless": True} if kind == "WEBP" else {}))) == "image_damaged"


@pytest.mark.parametrize("level", [0, 255])
def test_a_drawn_bar_is_no_damage_and_an_end_within_a_row_is(level):
    barred = PHOTO.copy()
    barred[300:] = level
    assert not is_missing_a_part(barred, plain=True)
    barred[299, 120:] = level
    assert is_missing_a_part(barred)


def test_a_lost_piece_of_plain_pixels_is_told_from_a_drawn_line():
    drawn, lost = np.maximum(PHOTO, 40), np.maximum(PHOTO, 40)
    drawn[100:103] = 0  # full width
    drawn[200:204, 50:200] = 0
    lost.reshape(-1, 3)[100 * 384 + 57 : 102 * 384 + 300] = 0
    assert not is_missing_a_part(drawn, plain=True)
    assert is_missing_a_part(lost, plain=True)


def test_an_area_without_content_is_blank():
    mouth = PHOTO[150:250, 150:250].reshape(-1, 3).copy()
    assert not is_blank(mouth)
    mouth[: len(mouth) // 5] = (128, 128, 128)
    assert is_blank(mouth)


# --- foreign formats ---


def test_a_raw_file_is_not_its_preview():
    preview, sensor = portrait(96), np.zeros((300, 300), np.uint16)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(
            preview, photometric="rgb", subfiletype=1, subifds=1, extratags=[(50706, "B", 4, (1, 4, 0, 0), True)]
        )
        file.write(
            sensor, photometric=32803, subfiletype=0, extratags=[(33421, "H", 2, (2, 2)), (33422, "B", 4, b"0121")]
        )
    assert reason(out.getvalue()) == "format_unsupported"
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:  # the same without DNG's own tag
        file.write(preview, photometric="rgb", subifds=1)
        file.write(sensor, photometric="minisblack", subfiletype=0)
    assert reason(out.getvalue()) == "format_unsupported"


def test_the_reduced_copies_of_a_tiff_are_no_second_picture():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(PHOTO, photometric="rgb", subifds=1)
        file.write(portrait(96), photometric="rgb", subfiletype=1)
    assert difference(out.getvalue(), PHOTO) == 0


def recoded(sof, precision=8):
    """A JPEG that names another kind of coding in its frame header."""
    data = saved(PHOTO, "JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([sof]) + data[at + 2 : at + 4] + bytes([precision]) + data[at + 5 :]


@pytest.mark.parametrize(
    "data",
    [
        recoded(0xC1, 12),
        recoded(0xC2, 12),
        recoded(0xC3),  # lossless
        recoded(0xC5),  # hierarchical
        recoded(0xC9),  # arithmetic
        recoded(0xF7),  # JPEG-LS
        b"\xff\x0a" + bytes(100),  # JPEG XL, bare
        b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),  # and in its container
        b"IIRO\x08\0\0\0" + bytes(100),  # Olympus
        b"IIU\0\x08\0\0\0" + bytes(100),  # Panasonic
        b"FUJIFILMCCD-RAW " + bytes(100),
        b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),  # Canon
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(100),
        b"\0\0\0\x18ftypavis\0\0\0\x01avismsf1",  # a film
        saved(PHOTO, "JPEG2000"),
        saved(PHOTO, "BMP"),
        saved(PHOTO, "GIF"),
    ],
)
def test_foreign_formats_are_unsupported_and_not_damaged(data):
    assert reason(data) in ("format_unsupported", "image_damaged")
    assert reason(data) == "format_unsupported"


def test_webp_in_tiff_is_unsupported():
    data = bytearray(saved(PHOTO, "TIFF"))
    at = data.index(struct.pack("<HHII", 259, 3, 1, 1))
    data[at : at + 12] = struct.pack("<HHIHH", 259, 3, 1, 50001, 0)
    assert reason(bytes(data)) == "format_unsupported"


# --- HEIC and AVIF ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_turned_picture_is_turned_upright_once(kind, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = saved(PHOTO[:200], kind, quality=95, exif=tags)
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    assert difference(data, turns[orientation](PHOTO[:200])) < 4


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_several_pictures_in_a_container_are_unsupported(kind):
    other = Image.fromarray(PHOTO[::-1].copy())
    assert reason(saved(PHOTO, kind, save_all=True, append_images=[other])) == "format_unsupported"


def heic(primaries, transfer):
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PHOTO)).save(
        out,
        quality=95,
        color_primaries=primaries,
        transfer_characteristics=transfer,
        matrix_coefficients=6,
        full_range_flag=1,
    )
    return out.getvalue()


def test_the_numbers_of_a_colour_space_are_followed():
    plain = decode_photo(heic(1, 13), LIMIT)
    display_p3 = colour.to_srgb(Image.fromarray(plain), colour.coded_profile(12, 13))
    assert difference(heic(12, 13), np.asarray(display_p3)) < 0.5
    assert np.abs(np.asarray(display_p3).astype(int) - plain).mean() > 2


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(transfer):
    assert reason(heic(9, transfer)) == "colour_unsupported"


def test_10_bit_heic_is_rounded():
    out = io.BytesIO()
    wide = pillow_heif.from_bytes("RGB;16", PHOTO.shape[1::-1], (PHOTO.astype(np.uint16) * 257).tobytes())
    wide.save(out, quality=95)
    assert pillow_heif.open_heif(out).info["bit_depth"] == 10
    assert difference(out.getvalue(), PHOTO) < 2


# --- DICOM ---


def test_dicom_keeps_the_pixels_it_stores():
    grey, negative = PHOTO[..., 1], 255 - GREY
    planes = np.ascontiguousarray(PHOTO.transpose(2, 0, 1)).tobytes()
    assert difference(dicom(PHOTO), PHOTO) == 0
    assert difference(dicom(PHOTO, PlanarConfiguration=1, PixelData=planes), PHOTO) == 0
    assert difference(dicom(PHOTO, syntax=uid.ImplicitVRLittleEndian), PHOTO) == 0
    assert difference(dicom(PHOTO, syntax=uid.RLELossless), PHOTO) == 0
    assert difference(dicom(PHOTO, "YBR_RCT", uid.JPEG2000Lossless, jpeg_2000(PHOTO)), PHOTO) == 0
    assert difference(dicom(grey, "MONOCHROME2"), GREY) == 0
    assert difference(dicom(grey, "MONOCHROME1"), negative) == 0
    luminance = np.asarray(Image.fromarray(PHOTO).convert("YCbCr"))
    assert difference(dicom(luminance, "YBR_FULL"), PHOTO) < 1.5


@pytest.mark.parametrize("says", ["RGB", "YBR_FULL_422"])
@pytest.mark.parametrize("how", [{}, {"keep_rgb": True}])
def test_a_jpegs_own_word_about_its_colours_counts(says, how):
    data = saved(PHOTO, "JPEG", quality=92, **how)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    assert difference(dicom(PHOTO, says, uid.JPEGBaseline8Bit, data), stored) == 0


def test_a_palette_is_looked_up():
    grey, levels, elements = PHOTO[..., 1], np.arange(256), {}
    tables = {"Red": levels, "Green": 255 - levels, "Blue": levels // 2}
    for name, table in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()
    expected = np.stack([table[grey] for table in tables.values()], axis=-1)
    assert difference(dicom(grey, "PALETTE COLOR", **elements), expected) == 0


@pytest.mark.parametrize(
    ("expected", "elements"),
    [
        ("format_unsupported", {"NumberOfFrames": 2, "PixelData": PHOTO.tobytes() * 2}),
        ("format_unsupported", {"SOPClassUID": uid.CTImageStorage}),
        ("format_unsupported", {"BitsAllocated": 16, "BitsStored": 12, "PixelData": PHOTO.tobytes() * 2}),
        ("format_unsupported", {"PixelAspectRatio": [2, 1]}),
        ("format_unsupported", {"syntax": uid.JPEGLosslessSV1, "frame": FORMATS["JPEG"]}),
        ("format_unsupported", {"syntax": uid.JPEGLSLossless, "frame": FORMATS["JPEG"]}),
        ("format_unsupported", {"syntax": uid.MPEG2MPML, "frame": FORMATS["JPEG"]}),
        ("text_declared", {"BurnedInAnnotation": "YES"}),
        ("image_damaged", {"syntax": uid.JPEGBaseline8Bit, "frame": cut_and_ended(FORMATS["JPEG"], 9000)}),
        ("image_damaged", {"syntax": uid.JPEGBaseline8Bit, "frame": saved(portrait(100), "JPEG")}),
        ("colour_unsupported", {"ColorSpace": "PHOTOPRO"}),
    ],
)
def test_other_dicom_objects_are_refused(expected, elements):
    assert reason(dicom(PHOTO, **elements)) == expected


def test_a_grey_picture_that_is_seen_through_a_window_is_refused():
    grey = PHOTO[..., 1]
    assert reason(dicom(grey, "MONOCHROME2", WindowCenter=128, WindowWidth=256)) == "ok"
    assert reason(dicom(grey, "MONOCHROME2", WindowCenter=40, WindowWidth=80)) == "format_unsupported"


def test_dicoms_profile_is_followed():
    profile = colour.coded_profile(12, 13)
    expected = np.asarray(colour.to_srgb(Image.fromarray(PHOTO), profile))
    assert difference(dicom(PHOTO, ColorSpace="DISPLAYP3"), expected) == 0
    path = Dataset()
    path.ICCProfile = profile + bytes(len(profile) % 2)
    assert difference(dicom(PHOTO, OpticalPathSequence=[path]), expected) == 0


# --- colour ---


def parts_of(profile, number_of_parts, numbers=None, count=None):
    """APP2 segments that hold a profile."""
    size = -(-len(profile) // number_of_parts)
    segments = []
    for i in range(number_of_parts):
        number = numbers[i] if numbers else i + 1
        content = b"ICC_PROFILE\0" + bytes([number, count or number_of_parts]) + profile[i * size : (i + 1) * size]
        segments.append(b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content)
    return segments


def test_a_profile_in_parts_is_whole_or_refused():
    profile, data = colour.coded_profile(12, 13), saved(PHOTO, "JPEG")
    whole = parts_of(profile, 3)
    expected = decode_photo(saved(PHOTO, "JPEG", icc_profile=profile), LIMIT)

    def with_parts(*segments):
        return data[:2] + b"".join(segments) + data[2:]

    assert difference(with_parts(*whole), expected) == 0
    assert difference(with_parts(whole[2], whole[0], whole[1]), expected) == 0
    assert reason(with_parts(*whole[:2])) == "image_damaged"
    assert reason(with_parts(*whole, whole[1])) == "image_damaged"
    assert reason(with_parts(*parts_of(profile, 3, count=4))) == "image_damaged"
    assert reason(with_parts(*parts_of(profile, 3, numbers=[0, 1, 2]))) == "image_damaged"
    assert reason(data[:-2] + b"".join(whole) + data[-2:]) == "image_damaged"  # too late


def adobe_rgb(**space):
    tags = Image.Exif()
    tags[0x0112], camera = 1, tags.get_ifd(0x8769)
    if "space" in space:
        camera[0xA001] = space["space"]
    if "index" in space:
        camera[0xA005] = {1: space["index"]}
    tags[0x8769] = camera
    return tags


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("space", [{"space": 2}, {"space": 0xFFFF, "index": "R03"}])
def test_exifs_adobe_rgb_is_converted(kind, space):
    how = {"lossless": True} if kind == "WEBP" else {}
    data = saved(PHOTO, kind, exif=adobe_rgb(**space), **how)
    plain = decode_photo(saved(PHOTO, kind, **how), LIMIT)
    linear = (plain / 255) ** (563 / 256)
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    from_xyz = np.linalg.inv([[0.41239, 0.35758, 0.18048], [0.21264, 0.71517, 0.07219], [0.01933, 0.11919, 0.95053]])
    mixed = np.clip(linear @ to_xyz.T @ from_xyz.T, 0, 1)  # Adobe RGB (1998), annex B; IEC 61966-2-1
    expected = 255 * np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    assert difference(data, expected) < 0.7
    assert np.abs(expected - plain).mean() > 2


def test_colours_that_exif_only_says_are_not_srgb_are_refused():
    assert reason(saved(PHOTO, "JPEG", exif=adobe_rgb(space=0xFFFF))) == "colour_unsupported"
    assert reason(saved(PHOTO, "JPEG", exif=adobe_rgb(space=1))) == "ok"
    profile = colour.coded_profile(1, 4)
    assert reason(saved(PHOTO, "JPEG", exif=adobe_rgb(space=0xFFFF), icc_profile=profile)) == "ok"


def with_chunk(name, content):
    from test_intake import png_chunk

    data = saved(PHOTO, "PNG")
    return data[:33] + png_chunk(name, content) + data[33:]


def test_a_pngs_numbers_are_followed():
    expected = np.asarray(colour.to_srgb(Image.fromarray(PHOTO), colour.coded_profile(12, 13)))
    assert difference(with_chunk(b"cICP", bytes([12, 13, 0, 1])), expected) == 0
    assert difference(with_chunk(b"cICP", bytes([1, 13, 0, 1])), PHOTO) == 0
    assert reason(with_chunk(b"cICP", bytes([9, 16, 0, 1]))) == "colour_unsupported"
    assert reason(with_chunk(b"cICP", bytes([1, 13, 0, 0]))) == "colour_unsupported"
    assert difference(with_chunk(b"gAMA", struct.pack(">I", 45455)), PHOTO) == 0
    linear = 255 * (1.055 * (PHOTO / 255) ** (1 / 2.4) - 0.055).clip(0)
    assert difference(with_chunk(b"gAMA", struct.pack(">I", 100000)), linear) < 2
