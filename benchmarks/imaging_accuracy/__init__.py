"""How well needles, seeds and the patient's position are found in simulated rescans, against truth."""
