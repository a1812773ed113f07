"""Automation: sensors, schedules, discovery of new checkpoints, notifications."""
