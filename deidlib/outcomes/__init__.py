"""Outcomes: the attempt that each photograph is released at, or the reason why it is not."""
