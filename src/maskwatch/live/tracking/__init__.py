"""From boxes to people: tracks, votes, zones, alerts and counts."""
