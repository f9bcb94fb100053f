"""A small 3D tumour classifier on real brain scans, explained and scored on patients it never saw."""
