"""Spoilt files, odd options and broken streams, thrown at every command: `python -m tests.fuzz --help`.

Idea: whatever a command is given, it does its work (exit code 0) or says in a line what is wrong (2); it never shows a
traceback, hangs, takes memory without bound, prints what could move a terminal's cursor, or loses a file.  A case is
named by its kind and a number, from which all its randomness follows: one that failed can be repeated alone.

    odd.py, mutations.py    values that nobody expects, and ways to spoil bytes, texts and JSON
    samples.py              the small whole files that are spoilt
    kinds/                  from a number to a case, one file a family of inputs
    runner.py, verdict.py   a case in a process of its own, under limits, and what is wrong with how it ended
    table.py, __main__.py   many cases, two at a time, and the table
    kills.py                trainings that are killed at any moment, and must lose nothing
"""
