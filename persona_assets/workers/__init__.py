"""Where a run's personas are made: in its own process, in one process a card, or on other hosts.

Whoever makes them, the run's process alone reads and writes the store: workers give back the bytes that are stored.
"""
