"""Loops for what torch has no operation for, by the kind of device they run on."""
