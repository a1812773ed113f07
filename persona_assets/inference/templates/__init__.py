"""Chat templates, rendered in a process with little time and memory."""
