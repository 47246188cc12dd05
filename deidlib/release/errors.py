"""The error that the release stage raises."""


class ReleaseError(Exception):
    """A release that cannot be made; the message says what to change, without an original id or path."""
