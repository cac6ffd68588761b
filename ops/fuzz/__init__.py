"""Fuzzing of everything that reads bytes from strangers or from disk.

`ops/fuzz/run --inputs N --seed S` mutates valid bytes and feeds them to each target in turn; an
input with a new outcome joins the corpus. A crash is any exception outside the error tree, or a
broken promise (round trips differ, bulk and single reading differ). `python -m ops.fuzz.guided
TARGET` drives the same targets by coverage where the `atheris` package is installed.
"""
