"""Weight files: the one safe reader, and what is known of the forms they come in."""
