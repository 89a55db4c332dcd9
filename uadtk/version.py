"""The version of uadtk, where every layer may read it."""

VERSION = "0.1.0"
