"""``python -m facehal``: the command where its script is not on the path."""

from facehal.cli import main

if __name__ == "__main__":
    main()
