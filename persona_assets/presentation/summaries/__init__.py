"""Headline numbers and text from the tables, for figures, the report and the asset pages."""
