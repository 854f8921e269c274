"""The parts of `python benchmarks/gpu_report.py`: each measures one thing on a CUDA device and yields its results."""
