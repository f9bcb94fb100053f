"""Files to values and back; the only door of every format."""
