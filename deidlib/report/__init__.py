"""The audit: what was done, what was measured and what that cannot show, as a page and as JSON."""

from deidlib.report.page import write_report

__all__ = ["write_report"]
