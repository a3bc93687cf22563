"""Trains, predicts and scores several methods on the same folds, and reports how they compare."""
