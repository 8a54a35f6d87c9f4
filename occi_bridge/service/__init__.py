"""What users may ask for, written into the database in one transaction each."""
