"""Uncertainty of scores over patients: intervals, paired tests, many findings, subgroups, agreement of metrics."""
