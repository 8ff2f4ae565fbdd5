"""The parts of scripts/fleet."""
