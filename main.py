"""`python main.py [group=option] [key=value]` runs one SliceOff job; see README.md."""

import sys

if __name__ == "__main__":
    try:
        from sliceoff.cli import main  # takes a second, in which Ctrl-C is heeded too
    except KeyboardInterrupt:
        print("interrupted; nothing was done yet", file=sys.stderr)
        sys.exit(130)
    main()
