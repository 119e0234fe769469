"""Closed loop: simulators in worker processes, one scheduler, one policy."""
