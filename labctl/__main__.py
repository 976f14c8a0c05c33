"""``python -m labctl``: the same as the command ``labctl``."""

from labctl.cli import main

if __name__ == "__main__":
    main(prog_name="labctl")
