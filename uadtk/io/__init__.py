"""Reading and atomic writing of scans, masks and cohort tables."""
