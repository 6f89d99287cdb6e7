"""Decisions without I/O: plain values and small state objects.

Nothing in here awaits, reads a clock or knows a client. Time comes in as an argument, in
seconds; what should happen comes out as a value. So all of it is tested by the thousand,
in milliseconds.
"""
