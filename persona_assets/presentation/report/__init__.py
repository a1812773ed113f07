"""The report: one self-contained HTML page, its Markdown summary and its tables."""
