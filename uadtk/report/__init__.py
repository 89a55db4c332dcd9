"""Reports for people: self-contained HTML pages of scans, trainings and benchmarks, images and tables."""
