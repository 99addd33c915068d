"""The formats of data sets: where their files lie, and how annotations are read and written."""
