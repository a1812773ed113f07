"""What is measured: a study, its settings and recipes, as checked data."""
