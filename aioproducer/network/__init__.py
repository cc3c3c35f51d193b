"""The cluster and the sockets to it: metadata, brokers, connections."""
