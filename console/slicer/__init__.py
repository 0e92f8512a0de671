"""A run as files that 3D Slicer opens as they are: volumes, models, markups, transforms, DICOM (SLICER.md)."""
