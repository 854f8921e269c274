"""What `fcnn-gpu bench` measures and how: see benchmarks/README.md for the method."""
