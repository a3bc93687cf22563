"""Command line entry points; they parse, delegate and turn user errors into one sentence."""
