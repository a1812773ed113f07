"""Execution of a run's tasks: in the run's own process, in one process per GPU, or on other hosts through Ray.

Only the run's process writes to the run's store; workers return the bytes to store.
"""
