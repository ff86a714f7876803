"""What there is of a result that is not whole is shown before the error is."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def unfinished_shown() -> Iterator[None]:
    """Show what there is of a result that is not whole, before the error is."""
    from flows.console import print_looks, print_outcome
    from flows.looks import UnfinishedGroupsError
    from flows.outcome import UnfinishedResultError

    try:
        yield
    except UnfinishedResultError as error:
        print_outcome(error.outcome)
        raise
    except UnfinishedGroupsError as error:
        print_looks(error.looks)
        raise
