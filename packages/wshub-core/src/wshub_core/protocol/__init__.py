"""State without input or output: registry, outbox, frames, deadlines. Time is an argument."""
