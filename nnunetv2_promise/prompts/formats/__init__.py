"""Click files of viewers and challenges: one module for each family of formats, and a table of them."""
