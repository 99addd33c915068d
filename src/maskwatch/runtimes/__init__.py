"""Runs model files: ONNX Runtime and OpenVINO behind one call, and the choice between them."""
