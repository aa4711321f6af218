"""Do the tests notice a fault in the code?  One is planted at a time: `python -m tests.mutations --help`.

Idea: a line that a test runs is not yet a line that a test checks.  So each fault of a list, such as a wrong sign or a
lock that is not taken, is written into a copy of the checkout, and the tests that should notice it run there.  A fault
that none of them notices shows where a test is missing.

    faults.py               the faults, each the replacement of a text that stands in its file once
    runner.py               the copy of the checkout, and the tests that run there
    __main__.py             the command

Leaves out faults that are made at random: most of them are trivial or change nothing.
Source: DeMillo, Lipton and Sayward 1978, "Hints on test data selection", doi:10.1109/C-M.1978.218136.
"""
