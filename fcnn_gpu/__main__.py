"""`python -m fcnn_gpu` is `fcnn-gpu`."""

from fcnn_gpu.cli import main

if __name__ == "__main__":
    main()
