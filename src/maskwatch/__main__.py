"""`python -m maskwatch` is `maskwatch`."""

from maskwatch.cli.app import main

if __name__ == "__main__":
    main()
