import sys

from stack.compose.compose import main

sys.exit(main(sys.argv[1:]))
