"""Renders pages: templates, SVG figures, PDF."""
