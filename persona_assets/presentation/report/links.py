"""Links from a page to where a number came from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A text and the address that it leads to.

    Raises:
        ValueError: the address is not one of the web.
    """

    text: str
    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"link: found {self.url!r}; expected an address that begins with http:// or https://")
