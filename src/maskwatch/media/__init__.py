"""Pictures and videos in and out."""

# Before PyAV, whose copy of libxcb otherwise lets the first window of OpenCV hang.
import cv2  # noqa: F401
