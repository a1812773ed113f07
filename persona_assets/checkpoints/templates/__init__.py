"""Chat templates: rendering in a separate process with limits, system role, switches, thoughts. Without PyTorch."""
