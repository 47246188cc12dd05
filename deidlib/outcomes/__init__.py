"""Outcomes: the attempt at which each photograph is released, or the reason why it is not."""
