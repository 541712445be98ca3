"""Studies: training, evaluation into tidy rows, and the tables and figures drawn from them."""
