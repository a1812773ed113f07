"""The report: a self-contained HTML page, a Markdown summary and data tables."""
