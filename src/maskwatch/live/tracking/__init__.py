"""From faces to events: tracks, votes on states, zones, alerts and counts."""
