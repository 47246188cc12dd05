"""The errors that the release stage raises."""

from deidlib.errors import DeidlibError


class ReleaseError(DeidlibError):
    """A release that cannot be made; the message says what to change, without an original id or path."""


class GateFailed(ReleaseError):
    """The release gate is not kept; crosswalk and quarantine list are written all the same."""


class NothingReleased(ReleaseError):
    """No photograph passed the gate; crosswalk and quarantine list are written all the same."""
