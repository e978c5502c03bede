"""Documents, tasks and rows: everything between a file and a table. Knows nothing of YAML, plans or ledgers."""
