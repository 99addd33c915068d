"""Watching: cameras → newest frames → people → events → whoever wants to know. Extra `[live]`.

Data goes one way: `capture` gives `LiveFrame`s, `faces` and `people` turn detections into people and
`Event`s, `sinks` carry events away. Nothing here draws conclusions from a single frame.
"""
