"""`python main.py [group=option] [key=value]` runs one SliceOff job; see README.md."""

from sliceoff.run import main

if __name__ == "__main__":
    main()
