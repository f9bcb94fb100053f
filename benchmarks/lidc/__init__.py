"""Nodules of LIDC-IDRI: a small 3D classifier of malignancy, and mosaics that ask which nodule its maps point at."""
