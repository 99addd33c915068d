"""What users of the TensorFlow Object Detection API bring along: checkpoints, pipeline.config, label maps."""
