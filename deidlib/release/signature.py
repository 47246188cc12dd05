"""Ed25519 signatures of a release: over the bytes of ``SHA256SUMS``, hence over every file it lists.

``SHA256SUMS.sig`` is the raw signature (64 bytes) and ``SHA256SUMS.pub`` the public key (PEM), so OpenSSL can check
them as well. A key in the same folder shows only that nothing was damaged. To know who made the release, compare it
with the key that the institution published.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from deidlib.errors import InputError, ReleaseError
from deidlib.release.files import sync_folder, write_synced
from deidlib.release.layout import PUBLIC_KEY_FILE, SIGNATURE_FILE, SUMS_FILE
from deidlib.release.reading import read_bytes

_KEY_BYTES = 1 << 16


def new_signing_key(path: Path) -> Path:
    """Write a new private key (PEM, mode 0600) and, beside it, its public key (``.pub``).

    Returns
    -------
    Path
        The public key's file.

    Raises
    ------
    ReleaseError
        One of the two exists (a key is never overwritten), or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if public.exists():
            raise FileExistsError
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        write_synced(public, public_bytes(key.public_key()))
    except FileExistsError:
        raise ReleaseError("this key exists and is kept: a key is never overwritten; name another file") from None
    except OSError as error:
        raise ReleaseError(f"the signing key cannot be written ({error.strerror}); name another file") from None
    return public


def sign_release(folder: Path, key_file: Path) -> str:
    """Sign a release's ``SHA256SUMS``; the same key gives the same bytes again.

    Parameters
    ----------
    folder : Path
        A release that :func:`deidlib.release.verify_release` found whole.
    key_file : Path
        Private Ed25519 key in PEM, readable by its owner alone.

    Returns
    -------
    str
        The public key's fingerprint.

    Raises
    ------
    ReleaseError
        The key cannot be used, or the release carries another key's signature.
    """
    key = _read_private(key_file)
    public = public_bytes(key.public_key())
    there = _read(folder, PUBLIC_KEY_FILE)
    if there is not None and there != public:
        raise ReleaseError(
            f"{folder.name} is signed with another key already ({fingerprint(there)}); remove {SIGNATURE_FILE} and "
            f"{PUBLIC_KEY_FILE} from it to sign it again"
        )
    signature = key.sign(read_bytes(folder, SUMS_FILE))
    for name, data in ((SIGNATURE_FILE, signature), (PUBLIC_KEY_FILE, public)):
        aside = folder.parent / f".{folder.name}.{name}.partial"
        try:
            write_synced(aside, data)
            aside.chmod(0o644)
            os.replace(aside, folder / name)
        finally:
            aside.unlink(missing_ok=True)
    sync_folder(folder)
    return fingerprint(public)


def signature_problems(folder: Path, public_key: Path | None = None) -> list[str]:
    """List what is wrong with a release's signature; an unsigned release has no problem unless a key is given.

    Parameters
    ----------
    folder : Path
        A release.
    public_key : Path or None
        The public key (PEM) that the institution published; by default the one in the folder.

    Raises
    ------
    ReleaseError
        ``public_key`` is none.
    """
    signature, inside = _read(folder, SIGNATURE_FILE), _read(folder, PUBLIC_KEY_FILE)
    given = None if public_key is None else _given(public_key)
    if signature is None and inside is None:
        return [] if given is None else [f"{SIGNATURE_FILE}: missing, the release is not signed"]
    if signature is None or inside is None:
        lacking = SIGNATURE_FILE if signature is None else PUBLIC_KEY_FILE
        return [f"{lacking}: missing, though {SUMS_FILE} was signed; sign the release again"]
    key = _public(inside)
    if key is None:
        return [f"{PUBLIC_KEY_FILE}: not an Ed25519 public key in the form deidlib writes"]
    if given is not None and given != inside:
        return [f"{PUBLIC_KEY_FILE}: another key ({fingerprint(inside)}) than the one given ({fingerprint(given)})"]
    try:
        key.verify(signature, _read(folder, SUMS_FILE) or b"")
    except InvalidSignature:
        return [f"{SIGNATURE_FILE}: does not fit {SUMS_FILE} and the key {fingerprint(inside)}"]
    return []


def signed_by(folder: Path) -> str | None:
    """Fingerprint of the key in a release's folder, None where there is none."""
    inside = _read(folder, PUBLIC_KEY_FILE)
    return None if inside is None else fingerprint(inside)


def fingerprint(public: bytes) -> str:
    """Short name of a public key: ``ed25519:`` and the SHA-256 of its PEM file's bytes."""
    return f"ed25519:{hashlib.sha256(public).hexdigest()}"


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """PEM of a public key."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public(data: bytes) -> Ed25519PublicKey | None:
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) and public_bytes(key) == data else None


def _given(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            key = serialization.load_pem_public_key(file.read(_KEY_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ReleaseError("the given public key is no Ed25519 key in PEM; ask the institution for its .pub file")
    return public_bytes(key)


def _read_private(path: Path) -> Ed25519PrivateKey:
    make = "make one with `deidlib keygen --signing FILE`"
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ReleaseError(
                    "the signing key can be read by others; if nobody has read it, run `chmod 600` on it, else " + make
                )
            key = serialization.load_pem_private_key(file.read(), password=None)
    except OSError as error:
        raise ReleaseError(f"the signing key cannot be read ({error.strerror}); {make}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"the signing key is no Ed25519 private key in PEM without password; {make}")
    return key


def _read(folder: Path, name: str) -> bytes | None:
    """Content of a file of a release; None where it is missing or cannot be one."""
    try:
        return read_bytes(folder, name)
    except InputError:
        return None
