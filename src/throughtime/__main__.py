"""What does `python -m throughtime` do? The same as the command `throughtime`."""

import sys

from throughtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
