"""The audit: what was done, what was measured and what that cannot show, as a page, as PDF and as JSON."""

from deidlib.report.page import write_report
from deidlib.report.reviewer import write_reviewer_copy

__all__ = ["write_report", "write_reviewer_copy"]
