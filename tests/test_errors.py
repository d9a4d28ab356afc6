from facehal.errors import first_line


def test_first_line_is_one_short_line():
    assert first_line(ValueError("what\nwhere")) == "what"
    assert first_line(ValueError("\n what\r\nwhere")) == "what"
    assert first_line(MemoryError()) == "MemoryError"
    long = first_line(ValueError("x" * 1_000_000))
    assert len(long) == 200 and long.endswith("x…")
