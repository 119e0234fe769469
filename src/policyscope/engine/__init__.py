"""The loops: frames or simulators in, predictions and episodes out."""
