"""Dice and surface Dice of predicted masks."""
