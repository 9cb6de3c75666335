"""Volumes and masks from and to files, with what the file says about place, units and classes."""
