"""Values only: no files, no hooks, no colours."""
