"""Judging models that are asked for labels: read classifier.py, judge.py, report.py."""
