"""DICOM: which files make one image, in which order and place, and what their pixels mean."""
