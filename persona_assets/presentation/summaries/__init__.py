"""Tables put into words and numbers, for figures, the report and the page."""
