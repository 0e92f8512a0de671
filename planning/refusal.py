"""The refusal a caller's own input earns: one sentence that says what, where and what to do."""


class AskedWrongly(Exception):
    """What was asked can't be done as asked; the message is one sentence for the person who asked.

    The command line prints it on one line and exits with status 2.
    """
