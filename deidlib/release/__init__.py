"""The release: a versioned folder of what passed the gate, and the checks that a recipient can repeat.

:func:`write_release` makes ``release/VERSION/`` (images, ``index.parquet``, documents, ``SHA256SUMS``) and the private
crosswalk; :func:`verify_release` re-checks such a folder without anything but the folder,
:func:`sign_release` signs it, and :func:`compare_releases` says what one version changed against another.
"""

from deidlib.errors import GateFailed, NothingReleased, ReleaseError
from deidlib.release.dataset import write_release
from deidlib.release.decision import decide
from deidlib.release.diff import compare_releases
from deidlib.release.layout import content_digest
from deidlib.release.signature import new_signing_key, sign_release, signed_by
from deidlib.release.verify import verify_release

__all__ = [
    "GateFailed",
    "NothingReleased",
    "ReleaseError",
    "compare_releases",
    "content_digest",
    "decide",
    "new_signing_key",
    "sign_release",
    "signed_by",
    "verify_release",
    "write_release",
]
