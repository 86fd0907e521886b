"""`python -m resnet_rs` is the command `resnet-rs`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
