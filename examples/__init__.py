"""Jobs and programs that show how the project is used."""
