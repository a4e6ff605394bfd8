"""Scanning a data set while it arrives."""
