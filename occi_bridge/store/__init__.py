"""The database: tables, rows as values, migrations."""
