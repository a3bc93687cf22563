"""Prompt files, their coordinates, and how to make them from labels."""
