"""The networks that ProMISe is compared with."""
