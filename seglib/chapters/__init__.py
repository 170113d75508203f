"""What only the chapters need: profiles, helpers for notebooks, Colab, measured results."""
