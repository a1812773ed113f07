"""Files on disk: read within limits, written atomically, digested. Knows nothing of studies or models."""
