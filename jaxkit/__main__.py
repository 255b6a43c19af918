"""`python -m jaxkit`."""

if __name__ == "__main__":
    try:
        from jaxkit.tools.cli import main
    except KeyboardInterrupt:  # Ctrl-C before there is a command
        raise SystemExit(130) from None
    raise SystemExit(main())
