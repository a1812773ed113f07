"""Artefact store, its locks, storage shared between hosts, and the instance folder."""
