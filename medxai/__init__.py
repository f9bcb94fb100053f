"""Saliency for medical image models, in the scanner's own coordinates."""
