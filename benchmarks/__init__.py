"""Measures this producer and its peers side by side, on one broker, in one run.

`python -m benchmarks` runs them; README.md in this folder tells how and how to read the figures.
Downwards: __main__ -> runner -> broker, workloads, summary -> clients -> drivers -> jobs.
"""
