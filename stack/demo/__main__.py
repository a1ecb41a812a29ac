import sys

from stack.demo.demo import main

sys.exit(main())
