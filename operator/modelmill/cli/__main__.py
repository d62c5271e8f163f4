"""`python -m modelmill.cli`: the same as `kubectl mill`."""

from modelmill.cli.command import main

if __name__ == "__main__":
    main()
