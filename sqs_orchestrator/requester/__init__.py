"""Who asks: publisher, pending requests, and the reply queue with its heartbeat and sweeper."""
