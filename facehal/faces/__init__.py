"""From photos to aligned faces: landmarks (dlib), alignment, face masks, and the batch job."""
