"""What draws a page: templates, SVG figures, PDF."""
