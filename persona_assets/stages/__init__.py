"""What each heavy asset computes for one persona."""
