"""What is shown of a dataset on trial."""
