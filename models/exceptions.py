"""What models raise for something outside themselves. They do not import searcher, whose errors have the same form."""

__all__ = ["WeightsError"]


class WeightsError(ValueError):
    """Pretrained weights that cannot be had or do not fit. One line: where, the rule, the value, the remedy."""
