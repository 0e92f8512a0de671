"""OpenIGTLink for 3D Slicer and other navigation software: a small server beside a running procedure (IGTL.md)."""
