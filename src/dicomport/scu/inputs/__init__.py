"""Inputs of the sender: files, folders, containers."""
