"""The history of channels: the streams of this hub, and the replicas of shared streams."""
