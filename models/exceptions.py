"""What models raise for something outside themselves. They do not import searcher, whose errors have the same form."""

__all__ = ["WeightsError"]


class WeightsError(ValueError):
    """Pretrained weights could not be read or downloaded, or do not fit the network.

    The message is one line: where, the rule, the value, the remedy.
    """
