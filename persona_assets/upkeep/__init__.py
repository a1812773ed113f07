"""Maintenance of an instance: doctor, self-test, database migration, retention, and SQLite lock timeouts."""
