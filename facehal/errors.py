"""The errors that a user can mend: each is one line saying what, which file, and what to do."""

LONGEST = 200  # characters of another package's error that are passed on


class FacehalError(Exception):
    """Base of all errors that are the input's fault; the command line prints them as one line."""


def first_line(error: BaseException) -> str:
    """What another package's error says, on one line of at most 200 characters; else its type.

    TensorFlow's about a broken library begins with a whole traceback: its lines do not count.
    """
    lines = str(error).strip().splitlines()
    said = [line for line in lines if line and not line[0].isspace()]
    said = [line for line in said if not line.startswith("Traceback")]
    line = (said or lines or [type(error).__name__])[0]
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def typed_line(error: BaseException) -> str:
    """The same behind the error's type ("TypeError: line"), for errors of any kind."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


class ImageError(FacehalError):
    """A picture cannot be used: unreadable, not a picture, too small, or of the wrong shape."""


class NoFaceError(FacehalError):
    """No face was found where one is needed."""


class DataError(FacehalError):
    """A prepared data set is missing, incomplete or not one of ours."""


class StorageError(FacehalError):
    """A bucket cannot be reached: no single file's fault, and the job ends, to go on later."""


class ConfigError(FacehalError):
    """An experiment file or option has an unknown name or an impossible value."""


class WeightsError(FacehalError):
    """A published weight file is missing, damaged or of another network."""


class TrainingError(FacehalError):
    """A run cannot start, go on, or be written."""
