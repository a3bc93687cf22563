"""A generated dataset and the main job run on it, with a report."""
