"""Lengths of what is given to a model as it is, without messages around it: a text, or several of them."""


def text_length(given: object) -> int | None:
    """Characters of text in a string, or in a list of strings or of parts that have a `text`; None where there is no text.

    Lists of token ids have none. What is neither string nor list is not looked into, lest it be consumed.
    """
    if isinstance(given, str):
        return len(given)
    if not isinstance(given, list | tuple):
        return None
    lengths = [len(text) for text in (_text_of(item) for item in given) if text is not None]
    return sum(lengths) if lengths else None


def _text_of(item: object) -> str | None:
    if isinstance(item, dict):
        item = item.get("text")
    return item if isinstance(item, str) else None
