"""Rendering of chat templates in a separate process with time and memory limits."""
