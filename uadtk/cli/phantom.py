"""Write phantoms."""
