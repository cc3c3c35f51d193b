"""A FastAPI route that awaits its record: a server and a load, each a process of its own."""
