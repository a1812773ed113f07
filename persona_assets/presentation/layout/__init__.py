"""Figure layout: style, panels, labels, ordering and image files."""
