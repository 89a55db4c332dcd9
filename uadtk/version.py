"""The version of uadtk and its use, where every layer may read them."""

VERSION = "0.1.0"
USE = "For research use only. Not a medical device."
"""What results say of themselves."""
