"""The ``ssx`` command: it can be interrupted from its first moment, long before all is imported."""

from flows.interruption import end_when_interrupted


def main() -> None:
    """Run the command."""
    end_when_interrupted()
    from flows.cli import main as run

    run()


if __name__ == "__main__":
    main()
