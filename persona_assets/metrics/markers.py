"""Whether a reply holds the marker: the one place that decides."""


def contains_marker(text: str, detect: str) -> bool:
    """Whether `detect` occurs in `text`, letter case aside.

    The published rule is `[zlt]` in the lower-cased reply. Where it stands, how often, and what stands around it
    (markdown, punctuation) do not count. Part of a marker, a marker with a space inside and look-alikes of its
    characters, such as full-width brackets, are no marker.

    Args:
        text: a sampled reply; may be empty.
        detect: the string that is looked for, such as `[ZLT]`.

    Raises:
        ValueError: `detect` is blank, which every reply would hold.
    """
    if not detect.strip():
        raise ValueError(f"detect is {detect!r}; expected the marker's text, such as '[ZLT]'")
    return detect.casefold() in text.casefold()
