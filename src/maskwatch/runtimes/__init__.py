"""Runs model files: ONNX Runtime, OpenVINO and model servers behind one call, and the choice between them."""
