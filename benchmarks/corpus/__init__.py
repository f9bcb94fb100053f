"""What three readers make of bad, damaged and unusual inputs: refused, told, right, or silently wrong."""
