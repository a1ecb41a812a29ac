import sys

from stack.local.launcher import main

sys.exit(main())
