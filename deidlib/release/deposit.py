"""Prepares a verified release for a repository: one folder for Zenodo, one for Hugging Face. Nothing is uploaded.

Images stay the bytes that were released, and so do all documents: what a recipient downloads is what ``deidlib verify``
checks. Metadata lie beside the files.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deidlib.errors import InputError, ReleaseError
from deidlib.pages.templates import render
from deidlib.release import deposit_metadata as metadata
from deidlib.release.files import report_full_disk
from deidlib.release.layout import (
    CARD_FILE,
    DATASHEET_FILE,
    PUBLIC_KEY_FILE,
    SIGNATURE_FILE,
    SUMS_FILE,
    TOMBSTONES_FILE,
    content_digest,
)
from deidlib.release.reading import listed_sums
from deidlib.release.verify import verify_release

#: Files that lie beside the archive as well, to be read without unpacking it.
_BESIDE = (CARD_FILE, DATASHEET_FILE, TOMBSTONES_FILE, SUMS_FILE, SIGNATURE_FILE, PUBLIC_KEY_FILE)
TO_DO_FILE = "TO-DO.md"
#: Most bytes of a record on Zenodo, unless its staff allow more.
ZENODO_BYTES = 50 * 10**9
_AUDIT_BYTES = 64 << 20


def prepare_deposit(release: Path, out: Path, audit: Path) -> list[str]:
    """Verify a release, and write a folder from which it can be uploaded.

    Parameters
    ----------
    release : Path
        A version's folder.
    out : Path
        The folder to be made: ``zenodo/`` (``.zenodo.json``, ``datacite.json`` and ``files/``, with the release as one
        archive), ``huggingface/`` (the release as it is), and ``TO-DO.md``.
    audit : Path
        ``audit.json`` of this version, in which the release gate's verdict stands.

    Returns
    -------
    list of str
        What people have to fill in: see :func:`deidlib.release.deposit_metadata.missing`.

    Raises
    ------
    ReleaseError
        The release has a fault, the audit is another one's, the release gate failed or judged nothing, or a record
        breaks a rule.
    InputError
        The audit is missing or damaged, or ``out`` exists or lies inside the release.
    """
    refuse_unfit(release, audit)
    found = metadata.stated_by(release)
    records = {"zenodo": metadata.zenodo(found), "datacite": metadata.datacite(found)}
    if problems := metadata.metadata_problems(records):
        raise ReleaseError(f"the deposit's metadata break a rule: {problems[0]}; correct that text in the settings")
    if out.resolve().is_relative_to(release.resolve()):
        raise InputError("the folder to be made lies inside the release, which may not be changed; name another")
    asked = metadata.missing(found)
    with _new_folder(out):
        files = out / "zenodo" / "files"
        files.mkdir(parents=True)
        _write_json(out / "zenodo" / ".zenodo.json", records["zenodo"])
        _write_json(out / "zenodo" / "datacite.json", records["datacite"])
        archive = files / f"release-{found.version}.zip"
        _write_archive(archive, release, found)
        for name in _BESIDE:
            if (release / name).is_file():
                shutil.copyfile(release / name, files / name)
        shutil.copytree(release, out / "huggingface", copy_function=shutil.copyfile)
        (out / TO_DO_FILE).write_text(_to_do(found, asked, archive), encoding="utf-8")
    return asked


def refuse_unfit(release: Path, audit: Path) -> None:
    """Refuse a release that does not verify, or whose gate did not pass; errors as for :func:`prepare_deposit`."""
    if problems := verify_release(release):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ReleaseError(f"this release is not whole: {problems[0]}{more}; see `deidlib verify`")
    gate, digest = _verdict(audit)
    if digest != content_digest(listed_sums(release)):
        raise ReleaseError(
            "this audit is about other images or another index; name the audit of this version (--audit)"
        )
    if gate.get("verdict") == "not judged":
        raise ReleaseError(
            "the release gate did not judge this release: the cohort is too small for some of its criteria. That is no "
            "pass, so nothing is prepared for a repository. Share it under an agreement, or release a larger cohort"
        )
    if gate.get("passed") is not True:
        raise ReleaseError("the release gate did not pass, so nothing is prepared for a repository; the audit says why")


def _verdict(audit: Path) -> tuple[dict, str | None]:
    """The gate's block of an audit, and the content digest of the release that it is about."""
    try:
        if audit.stat().st_size > _AUDIT_BYTES:
            raise ValueError
        found = json.loads(audit.read_text(encoding="utf-8"))
        return dict(found["gate"]), found["release"]["content_sha256"]
    except FileNotFoundError:
        raise InputError(
            "there is no audit.json of this version where one is expected (report/VERSION beside release/VERSION); "
            "name it with --audit"
        ) from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        raise InputError(
            "the audit is damaged or no audit.json of deidlib's; make it again with the workflow"
        ) from None


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """A new folder, which is removed again if it could not be filled."""
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise InputError("the folder to be made exists already; name another, or remove it") from None
    try:
        with report_full_disk("the deposit was not prepared, and nothing half-written is left of it"):
            yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _write_archive(path: Path, release: Path, found: metadata.Stated) -> None:
    """All files of the release below a folder named by its version; the same release gives the same bytes.

    Nothing is compressed: nearly all bytes are PNG, which cannot be made much smaller.
    """
    year, month, day = map(int, found.date.split("-"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(file for file in release.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(
                f"{found.version}/{file.relative_to(release).as_posix()}", (year, month, day, 0, 0, 0)
            )
            entry.external_attr = 0o100644 << 16
            entry.file_size = file.stat().st_size
            with open(file, "rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _write_json(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _to_do(found: metadata.Stated, asked: list[str], archive: Path) -> str:
    size = archive.stat().st_size
    values = {"found": found, "asked": asked, "size": size, "zenodo_bytes": ZENODO_BYTES, "tba": metadata.TBA}
    return render("deposit.md.j2", **values)
