"""From an accepted record to its outcome: what is decided when not all goes well.

What runs when all goes well is native (`aioproducer._native`), and calls up here for the rest.
"""
