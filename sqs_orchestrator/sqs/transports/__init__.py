"""What carries the calls: the stock client, and the lean path."""
