"""Commands on a finished release: verify, diff, sign, release-dicom. The last also needs the secret key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deidlib.cli.common import KeyFile, secret
from deidlib.errors import InputError
from deidlib.logs import say
from deidlib.storage.stage import read

if TYPE_CHECKING:
    from deidlib.release.diff import ImageDifference

#: Problems that are printed.
_MOST_LINES = 1000

Release = Annotated[Path, typer.Argument(help="Folder of a release.", show_default=False)]


def verify(
    release: Release,
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="The institution's public key (FILE.pub): the release must be signed with it.", show_default=False
        ),
    ] = None,
) -> None:
    """Re-check a release from its folder alone; exit code 1 if anything is wrong with it.

    Example:
      deidlib verify results/release/1.0.0
    """
    from deidlib.release import content_digest, signed_by, verify_release
    from deidlib.release.gallery import gallery_warning
    from deidlib.release.reading import listed_sums
    from deidlib.release.verify import layout_warning

    _must_be_folder(release)
    problems = verify_release(release, public_key)
    for problem in problems[:_MOST_LINES]:
        say(problem)
    if problems:
        more = f" ({_MOST_LINES} of them shown)" if len(problems) > _MOST_LINES else ""
        say(f"FAILED: {len(problems)} problems{more}")
        raise typer.Exit(1)
    digest = content_digest(listed_sums(release))  # which hold: the files were compared with them
    signer = signed_by(release)
    if signer is not None and public_key is not None:
        print(f"as released: every file is as it was when it was signed with the key given, {signer}")
    else:
        print("consistent: the files agree with SHA256SUMS and with each other")
    print(f"content digest {digest}")
    if older := layout_warning(release):
        print(older)
    if other := gallery_warning(release):
        print(other)
    if signer is None:
        print(
            "not signed: somebody who changed the files could have changed the checksums as well. Compare the content "
            "digest with one that the institution published, or sent you apart from the files"
        )
    elif public_key is None:
        print(
            f"signed with {signer}, a key that came with the release: compare it with the one that the institution "
            "published (--public-key)"
        )


def diff(
    old: Annotated[Path, typer.Argument(help="Folder of the earlier version.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="Folder of the later version.", show_default=False)],
    crosswalk: Annotated[
        Path | None,
        typer.Option(
            help="results/private/crosswalk.parquet of the run that made NEW: gives the reason of each removal.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Also compare the pixels of photographs in both: how far a run on another kind of processor came out.",
        ),
    ] = False,
) -> None:
    """List what a version added, removed and changed, with reasons; ids are those of the releases.

    Example:
      deidlib diff results/release/1.0.0 results/release/1.1.0
    """
    from deidlib.release import compare_releases
    from deidlib.release.diff import compare_images

    _must_be_folder(old)
    _must_be_folder(new)
    found = compare_releases(old, new, None if crosswalk is None else read(crosswalk, "CROSSWALK"))
    if found.layout is not None:
        print(f"layout: {found.layout}")
    for mark, photographs in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for name, reason in photographs.items():
            print(f"{mark} {name}  {reason}")
    for line in found.settings:
        print(f"setting {line}")
    print(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed, "
        f"{found.unchanged} unchanged"
    )
    if images:
        _print_images(compare_images(old, new))


def _print_images(found: ImageDifference) -> None:
    for name, apart in found.differing.items():
        apart_by = f"mean {apart.mean:.2f}, largest {apart.largest}" if apart.same_size else "of another size"
        print(
            f"≠ {name}  pixels: {apart_by}{'' if apart.core_kept else '; the preserved core differs or lies elsewhere'}"
        )
    print(f"pixels: {found.equal} of {found.equal + len(found.differing)} photographs in both are equal")
    means = [apart.mean for apart in found.differing.values() if apart.same_size]
    if means:
        mean, largest = found.overall()
        print(
            f"the other {len(means)} differ by {mean:.2f} grey levels in the mean "
            f"({min(means):.2f} to {max(means):.2f} a photograph) and {largest} at most, over the whole image: "
            "a release does not say where the core lies"
        )
    other = len(found.differing) - len(means)
    if other:
        print(f"{other} are of another size and were not compared")
    broken = sum(not apart.core_kept for apart in found.differing.values())
    if broken:
        print(f"in {broken} fewer pixels are equal than the preserved core has: it differs or lies elsewhere")


def sign(
    release: Release,
    key: Annotated[
        Path, typer.Option(help="Private Ed25519 key, made by `deidlib keygen --signing`.", show_default=False)
    ],
) -> None:
    """Sign a release: adds SHA256SUMS.sig and SHA256SUMS.pub, and changes nothing else. It is verified first.

    Example:
      deidlib sign results/release/1.0.0 --key ~/signing.key
    """
    from deidlib.release import sign_release, verify_release

    _must_be_folder(release)
    about_signature = ("SHA256SUMS.sig", "SHA256SUMS.pub")
    problems = [problem for problem in verify_release(release) if not problem.startswith(about_signature)]
    if problems:
        raise InputError(f"this release is not whole ({problems[0]}); see `deidlib verify`, and sign a whole one")
    say(f"signed with {sign_release(release, key)}")


def release_dicom(
    release: Release,
    out: Annotated[Path, typer.Argument(help="Folder to be made for the objects.", show_default=False)],
    key_file: KeyFile = None,
) -> None:
    """Write a release's photographs as DICOM objects (VL Photographic Image). The release is verified, and not changed.

    Example:
      deidlib release-dicom results/release/1.0.0 results/dicom-1.0.0
    """
    from deidlib.release import verify_release
    from deidlib.release.dicom_objects import write_objects

    _must_be_folder(release)
    key = secret(key_file)
    problems = verify_release(release)
    if problems:
        raise InputError(f"this release is not whole ({problems[0]}); see `deidlib verify`, and export a whole one")
    say(f"{write_objects(release, out, key)} objects written")


def _must_be_folder(path: Path) -> None:
    if not path.is_dir():
        raise InputError("this is no folder; name a release, for example results/release/1.0.0")
