"""The one error of the lab."""


class LabError(Exception):
    """The lab can't be built or run; the text says why and what to do."""
