"""The inside of a `Poller`: what it does with messages, from their receive to their outcome."""
