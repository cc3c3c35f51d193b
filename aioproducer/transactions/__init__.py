"""Transactions: their states, their coordinator, and how they begin and end (KIP-98, KIP-890)."""
