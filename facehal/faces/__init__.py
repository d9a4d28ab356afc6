"""Pure functions of one photo: landmarks, alignment, the face mask, pasting back, background."""
