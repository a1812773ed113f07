"""What was computed: the artefact store, its locks, storage that hosts share, and the instance's folder."""
