"""Readers of what is not a table or a NIfTI file: trees of files, and formats of other programs."""
