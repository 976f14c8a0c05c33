"""What a simulated instrument is: wire patterns, sockets, pseudo-terminals and faults."""
