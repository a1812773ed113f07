"""What happens without a person: sensors, schedules, discovery of new checkpoints, notifications."""
