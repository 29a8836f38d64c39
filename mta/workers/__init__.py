"""Several servers on one machine, one to a process: who starts them, watches them and speaks for them."""
