"""U-Nets that clicks correct, with the interaction channels of nnInteractive."""
