"""Pure functions and one row of facts about each."""
