"""Marker detection: the single definition of whether a reply contains the marker."""


def contains_marker(text: str, detect: str) -> bool:
    """Return whether `detect` occurs in `text`, ignoring case.

    The published rule is `[zlt]` in the lower-cased reply. Its position, the number of occurrences and the surrounding
    characters (markdown, punctuation) do not matter. A partial marker, a marker with a space inside, and look-alike
    characters such as full-width brackets do not match.

    Args:
        text: a sampled reply; may be empty.
        detect: the string to look for, such as `[ZLT]`.

    Raises:
        ValueError: `detect` is blank, which would match every reply.
    """
    if not detect.strip():
        raise ValueError(f"detect is {detect!r}; expected the marker's text, such as '[ZLT]'")
    return detect.casefold() in text.casefold()
