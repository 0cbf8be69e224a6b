"""What the scheduling rule does with a trace of jobs, without a fleet: a discrete-event run of the very same code."""
