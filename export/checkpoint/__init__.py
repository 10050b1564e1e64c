"""Find, fetch and read a checkpoint and say which model it is; imports model and configs."""
