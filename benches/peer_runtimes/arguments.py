"""Arguments that the benchmarks' command lines share."""


def positive(text: str) -> int:
    """Parse an integer of at least 1.

    Raises:
        ValueError: anything else.
    """
    if (number := int(text)) < 1:
        raise ValueError
    return number
