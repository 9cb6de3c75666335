"""What an annotator does: edits, undo, constraints, sessions, the log, the sidecar; no Qt."""

from napari_hidiff.annotation.annotation import Annotation

__all__ = ["Annotation"]
