"""The demo: generated CT scans with look-alike lesions, and the whole job run on them."""
