"""What `make results` and `make bench` run: `python -m benchmarks.train_unet`."""
