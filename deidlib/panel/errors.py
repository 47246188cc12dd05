"""The error that the panel study raises."""

from deidlib.errors import DeidlibError


class PanelError(DeidlibError):
    """A study that cannot be made or read; the message says what to change, without an original id or path."""
