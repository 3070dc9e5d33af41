"""Who gets in, how, and what they may do there."""
