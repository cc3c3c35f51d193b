"""What a producer tells of itself to those who watch it."""
