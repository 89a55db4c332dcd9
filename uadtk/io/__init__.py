"""Files in and out: scans, masks, cohort tables; everything written appears whole or not at all."""
