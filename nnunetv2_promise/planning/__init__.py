"""Extended fingerprint and the planners that read it."""
