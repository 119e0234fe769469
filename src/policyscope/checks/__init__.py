"""What would make the numbers meaningless: in the files, in the predictions, in the scores."""
