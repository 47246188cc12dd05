"""The errors that the project raises on purpose: each message says what is wrong and how to mend it.

The command line shows the text of these errors alone. The text of any other error may quote a patient's id or path, so
it is withheld. A message of these errors never holds an original id, a path of a photograph or the content of a cell.
"""


class DeidlibError(Exception):
    """Base of every error whose message is written for a person and may stand in a log."""


class InputError(DeidlibError, ValueError):
    """A file, a setting or an argument cannot be used as it is."""


class ReleaseError(DeidlibError):
    """A release that cannot be made; the message says what to change, without an original id or path."""


class GateFailed(ReleaseError):
    """The release gate failed, so there is no release."""


class ReviewPending(ReleaseError):
    """The configuration demands a review, and not every photograph has its decision, so there is no release yet."""


class NothingReleased(ReleaseError):
    """No photograph passed its checks, so there is no release."""
