"""The command `coxswain-simulate`: traces in, tables, pictures and JSON out. Everything that reads or writes files."""
