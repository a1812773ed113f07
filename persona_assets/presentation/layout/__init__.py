"""How figures are laid out: style, panels, labels, ordering, image files."""
