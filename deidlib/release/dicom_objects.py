"""A release as DICOM: a VL Photographic Image object of every released photograph, made from the release's folder.

Each object is built new, so it contains nothing of a source's header. It states that identity was removed, and how:
(0012,0062), (0012,0063), and in (0012,0064) the codes of PS3.15, annex E (CID 7050). UIDs are derived with the secret
key: the same release gives the same objects, byte for byte, and nobody can link them to others without the key.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import pydicom
from pyarrow import parquet
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from deidlib import keys
from deidlib.contract.routes import INTRAORAL
from deidlib.errors import InputError
from deidlib.intake import colour, views
from deidlib.release.layout import INDEX_FILE, SUMS_FILE, checksums
from deidlib.storage.images import decode_png

_VERSION = version("deidlib")
#: Methods applied. Text in pixels is searched for and not removed, so Clean Pixel Data (113101) is not claimed.
_METHODS = (codes.DCM.BasicApplicationConfidentialityProfile, codes.DCM.CleanRecognizableVisualFeaturesOption)
_WITH_SEX = codes.DCM.RetainPatientCharacteristicsOption
_SEXES = {"F": "F", "M": "M", "X": "O"}
_MOUTH, _HEAD = Code("123851003", "SCT", "Mouth"), Code("774007", "SCT", "Head and Neck")
_FRONTAL = Code("399033003", "SCT", "frontal")
#: View Code Sequence; the sheet does not say to which side a profile looks.
_PROJECTIONS = {
    views.FRONTAL_REST: _FRONTAL,
    views.FRONTAL_SMILE: _FRONTAL,
    views.THREE_QUARTER: Code("260454004", "SCT", "45 degree projection"),
}


def write_objects(release: Path, out: Path, key: bytes, progress: Callable[[], object] | None = None) -> int:
    """Write the DICOM objects of a release and ``SHA256SUMS`` over them; the folder appears whole or not at all.

    Parameters
    ----------
    release : Path
        Folder of a release that is whole (:func:`deidlib.release.verify_release`).
    out : Path
        Folder to be made. Objects lie in it as the images do in the release.
    key : bytes
        The secret key.
    progress : callable, optional
        Called once a photograph.

    Returns
    -------
    int
        How many objects were written.

    Raises
    ------
    InputError
        ``out`` exists.
    """
    release, out = Path(release), Path(out)
    if out.exists():
        raise InputError("the folder for the DICOM objects exists; name a new one: objects are never changed")
    rows = parquet.read_table(release / INDEX_FILE).to_pylist()
    aside = out.with_name(f".{out.name}.incomplete")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    series: dict[tuple, int] = {}
    for row in sorted(rows, key=lambda row: row["release_photo_id"]):
        number = series[_series(row)] = series.get(_series(row), 0) + 1
        file = (aside / row["path"]).with_suffix(".dcm")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(to_object((release / row["path"]).read_bytes(), row, number, key))
        if progress is not None:
            progress()
    listed = (f"{digest}  {path}\n" for path, digest in checksums(aside).items())
    (aside / SUMS_FILE).write_text("".join(listed), encoding="utf-8")
    aside.rename(out)
    return len(rows)


def to_object(png: bytes, row: Mapping, number: int, key: bytes) -> bytes:
    """DICOM file (Part 10, uncompressed) of a released photograph.

    Parameters
    ----------
    png : bytes
        The released image.
    row : mapping
        Its row of the release's index: ``release_patient_id``, ``release_photo_id``, ``view``, ``timepoint``,
        ``route``, ``sha256`` and, if it was released, ``sex``.
    number : int
        Number of the image in its series, from 1.
    key : bytes
        The secret key, from which UIDs are derived.
    """
    dataset = Dataset()
    _add_patient_and_study(dataset, row, key)
    _add_image(dataset, png, row, number)
    dataset.SOPClassUID = uid.VLPhotographicImageStorage
    dataset.SOPInstanceUID = keys.uid(key, "instance", row["release_photo_id"], row["sha256"])
    meta = dataset.file_meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _series(row: Mapping) -> tuple[str, str]:
    return row["release_patient_id"], row.get("timepoint") or ""


def _add_patient_and_study(dataset: Dataset, row: Mapping, key: bytes) -> None:
    """Patient, Study, Series and Equipment: pseudonyms, and no date at all."""
    dataset.PatientName = dataset.PatientID = row["release_patient_id"]
    dataset.PatientBirthDate = ""
    dataset.PatientSex = _SEXES.get(row.get("sex") or "", "")
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"deidlib {_VERSION}, route {row['route']}"
    methods = (*_METHODS, _WITH_SEX) if dataset.PatientSex else _METHODS
    dataset.DeidentificationMethodCodeSequence = [_item(code) for code in methods]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.StudyInstanceUID = keys.uid(key, "study", *_series(row))
    dataset.SeriesInstanceUID = keys.uid(key, "series", *_series(row))
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = ""
    dataset.StudyDescription = row.get("timepoint") or ""
    dataset.Modality, dataset.SeriesNumber = "XC", 1
    dataset.Manufacturer, dataset.ManufacturerModelName = "", "deidlib"
    dataset.SoftwareVersions = _VERSION


def _add_image(dataset: Dataset, png: bytes, row: Mapping, number: int) -> None:
    """General Image, Image Pixel, VL Image, Acquisition Context and ICC Profile."""
    pixels = decode_png(png)
    dataset.InstanceNumber = number
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = ""  # of the photograph it was made from nothing is known
    dataset.RecognizableVisualFeatures = "NO"
    dataset.AcquisitionContextSequence = []
    inside = row.get("view") == views.INTRAORAL or row["route"] == INTRAORAL
    dataset.AnatomicRegionSequence = [_item(_MOUTH if inside else _HEAD)]
    if row.get("view") in _PROJECTIONS:
        dataset.ViewCodeSequence = [_item(_PROJECTIONS[row["view"]])]
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    stored = pixels.tobytes()
    dataset.add_new("PixelData", "OB", stored + bytes(len(stored) % 2))
    profile = colour.srgb_profile()
    dataset.ICCProfile, dataset.ColorSpace = profile + bytes(len(profile) % 2), "SRGB"


def _item(code: Code) -> pydicom.Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
