"""Links from the report to the source of a number."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """Link text and URL.

    Raises:
        ValueError: the URL is not an http or https URL.
    """

    text: str
    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"link: found {self.url!r}; expected a URL that starts with http:// or https://")
