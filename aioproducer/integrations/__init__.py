"""What joins a producer to the libraries of others: one module each, with an extra of its own."""
