"""The statements by what they are about: one file a family, each a function from what is asked to statements."""
