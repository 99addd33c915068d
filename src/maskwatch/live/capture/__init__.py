"""From sources to frames: webcams, streams, files and pipes, each read in its own thread."""

# Before PyAV, whose copy of libxcb otherwise lets the first window of OpenCV hang.
import cv2  # noqa: F401
