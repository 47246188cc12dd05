"""The secret key and what is derived from it: pseudonyms, random streams and shards (HMAC-SHA-256, RFC 2104).

Every derivation hashes a list of strings, each preceded by its length, so that ("ab", "c") and ("a", "bc")
differ; the first string says what the value is for, so that one purpose never yields another's value.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import stat
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from deidlib.errors import InputError

MIN_KEY_BYTES = 32
#: A random key of 32 bytes, or of 64 hexadecimal digits, is below one of these limits once in a million million cases.
_FEWEST_BYTES, _FEWEST_STEPS, _LEAST_COMPRESSED = 7, 4, 36
#: Text that is a key rather than the name of a file.
_LIKE_A_KEY = re.compile(r"[0-9A-Za-z+/=_-]{24,}")
_PSEUDONYM_CHARS = 16  # 80 bits: two of a million ids collide with a probability below 1e-12


class KeyFileError(InputError):
    """The key file cannot be used; the message says what to do."""


def read_key(path: Path | str) -> bytes:
    """Read the secret key.

    Parameters
    ----------
    path : path
        A regular file that only its owner may read, of at least 32 bytes (`deidlib keygen` writes 64
        hexadecimal digits). The line break at its end is not part of the key.

    Raises
    ------
    KeyFileError
        The file is missing, readable by group or others, too short or weak. The message never holds the key.
    """
    path, shown = Path(path), shown_path(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"key file {shown} is not a file; make a key with `deidlib keygen`")
            if status.st_mode & 0o077:
                raise KeyFileError(
                    f"key file {shown} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}); if "
                    "nobody has read it, run `chmod 600` on it, else make a new one with `deidlib keygen`"
                )
            key = file.read().rstrip(b"\r\n")
    except FileNotFoundError:
        raise KeyFileError(
            f"no key file at {shown}; make one with `deidlib keygen`, name it in key_file or DEIDLIB_KEY_FILE"
        ) from None
    except OSError as error:
        raise KeyFileError(
            f"key file {shown} cannot be read ({error.strerror}); mend that, or make one with `deidlib keygen`"
        ) from None
    if len(key) < MIN_KEY_BYTES:
        raise KeyFileError(f"key file {shown} holds fewer than {MIN_KEY_BYTES} bytes; make one with `deidlib keygen`")
    if is_weak(key):
        raise KeyFileError(
            f"key file {shown} holds a key that can be guessed (repeated or counted characters); make one with "
            "`deidlib keygen`"
        )
    return key


def is_weak(key: bytes) -> bool:
    """Whether a key is clearly not random: few different bytes, a repeated pattern, or counting."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    return len(set(key)) < _FEWEST_BYTES or len(steps) < _FEWEST_STEPS or len(zlib.compress(key, 9)) < _LEAST_COMPRESSED


def shown_path(path: Path | str) -> str:
    """Path of a key file for a message; withheld where it looks like the key itself, given instead of its file."""
    name = Path(path).name
    return "(its name is not shown: it may be the key itself)" if _LIKE_A_KEY.fullmatch(name) else str(path)


def write_new_key(path: Path | str) -> None:
    """Write a new random key of 256 bits to a file that only its owner may read (mode 0600 under any umask).

    Raises
    ------
    KeyFileError
        Something exists at this path (a key is never overwritten: the pseudonyms of a release depend on it), or
        the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists and is kept: a key is never overwritten; name another file") from None
    except OSError as error:
        raise KeyFileError(f"cannot write the key to {path} ({error.strerror}); name another file") from None
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(secrets.token_hex(MIN_KEY_BYTES).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _digest(key: bytes, *parts: str) -> bytes:
    encoded = [part.encode("utf-8") for part in parts]
    return hmac.digest(key, b"".join(struct.pack(">Q", len(part)) + part for part in encoded), "sha256")


def pseudonym(key: bytes, kind: str, *parts: str) -> str:
    """Keyed pseudonym of 16 characters (a-z, 2-7), from which nobody without the key finds the parts.

    Parameters
    ----------
    key : bytes
        The secret key.
    kind : str
        What is named, for example "patient" or "photo"; kinds share no pseudonyms.
    *parts : str
        The original id or ids.
    """
    return base64.b32encode(_digest(key, "pseudonym", kind, *parts)).decode("ascii").lower()[:_PSEUDONYM_CHARS]


def keyed_rng(key: bytes, kind: str, *parts: str) -> np.random.Generator:
    """Random generator (PCG64) that depends on the key, the kind and the parts alone."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(key, "rng", kind, *parts), "big")))


def uid(key: bytes, kind: str, *parts: str) -> str:
    """DICOM UID that depends on the key, the kind and the parts alone.

    It is a UUID (RFC 9562, version 8) below the root 2.25 (PS3.5, B.2): 122 bits of the digest.
    """
    digest = bytearray(_digest(key, "uid", kind, *parts)[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def shard_of(key: bytes, patient_id: str, n_shards: int) -> int:
    """Shard number (0 … n_shards − 1) of a patient; it depends on the key, the patient and n_shards alone."""
    if n_shards < 1:
        raise ValueError(f"n_shards must be at least 1, got {n_shards}")
    return int.from_bytes(_digest(key, "shard", patient_id)[:8], "big") % n_shards
