"""File handling: bounded reads, atomic writes, digests. Independent of studies and models."""
