"""Which weights are measured: their identity, their files, the registry, and how new ones are found."""
