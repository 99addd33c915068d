"""Files of the TensorFlow Object Detection API: checkpoints, pipeline.config, label maps."""
