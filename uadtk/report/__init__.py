"""What a person reads: one self-contained HTML page per scan, and one picture for a README."""
