"""`python -m rfcx_tf VERB ...`: the command `rfcx-tf`."""

import sys

from rfcx_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
