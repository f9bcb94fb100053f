"""Pictures of values."""
