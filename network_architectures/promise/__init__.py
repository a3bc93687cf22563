"""ProMISe, part by part; ``network`` is the table of contents."""
