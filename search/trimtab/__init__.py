"""The face: spec, plan, controller, frontier maths, selection, emission, command line."""
