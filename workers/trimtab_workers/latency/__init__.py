"""Latency: what is timed, how it is timed and judged, and what it will be by a table of parts."""
