"""`python -m jaxkit`."""

from jaxkit.tools.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
