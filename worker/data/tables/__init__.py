"""Tables: files of rows and columns, read by pyarrow, and what becomes of them; imported only where one is read."""
