"""A cohort whose truth is known, a small model trained on it, and the main job run on both."""
