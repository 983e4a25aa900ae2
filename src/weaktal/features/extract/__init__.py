"""Snippet features from videos: decoding, backbones, and the driver that runs one over many videos."""
