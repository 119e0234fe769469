"""The loops: frames or simulators in, predictions and episodes out.

Order, batches, timing and progress are decided here, and that a killed run goes on where it
stopped. Scores are made afterwards, in `policyscope.metrics`, from what is stored.
"""
