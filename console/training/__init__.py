"""What a trainee touches: terminal and script, score and debrief, the record of the runs."""
