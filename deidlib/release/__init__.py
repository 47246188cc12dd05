"""The release: a versioned folder of what passed the gate, and the check that a recipient can repeat.

:func:`write_release` makes ``release/VERSION/`` (images, ``index.parquet``, data card, ``SHA256SUMS``) and
the private crosswalk; :func:`verify_release` re-checks such a folder without anything but the folder.
"""

from deidlib.release.dataset import write_release
from deidlib.release.errors import GateFailed, NothingReleased, ReleaseError
from deidlib.release.gate import obey_gate
from deidlib.release.verify import content_digest, verify_release

__all__ = [
    "GateFailed",
    "NothingReleased",
    "ReleaseError",
    "content_digest",
    "obey_gate",
    "verify_release",
    "write_release",
]
