"""``python -m mipplan``."""

from mipplan.cli import main

if __name__ == "__main__":
    main()
