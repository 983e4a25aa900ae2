"""Snippet scores to detections: thresholding, outer-inner contrast, non-maximum suppression."""
