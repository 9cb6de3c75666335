"""The plugin's window: it translates napari's and Qt's events, and leaves the work to session.py.

Importing this package does not import torch; models are loaded in a worker thread when needed.
"""
