"""The error that the panel study raises."""


class PanelError(Exception):
    """A study that cannot be made or read; the message says what to change, without an original id or path."""
