"""Watching cameras, streams and videos. Needs the extra `[live]`.

Data goes one way: `capture` reads the newest frames, `tracking` turns faces into people and events, `sinks`
deliver events, `output` shows and records. `loop` opens these parts from a `config` and runs them; `run` is
the command. No event depends on a single frame.
"""
