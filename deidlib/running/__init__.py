"""A run: its start, its progress, and its last lines."""
