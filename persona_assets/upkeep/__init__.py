"""Keeping an instance healthy: doctor, self-test, migration, retention, waiting for locked databases."""
