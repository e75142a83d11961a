"""What each kind says about its own writes: defaults, allocation, validation."""
