"""What all other parts stand on: checks, exact distances, compiled kernels."""
